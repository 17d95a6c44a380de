import test from 'ava'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkpoint, lowbit } from './command-line.ts'
import { counted, NOVELS, safetensors, tempFolder } from './helpers.ts'

test('quantize --json: one document on stdout, and the folder is there', async (t) => {
  const { model, out } = await checkpoint(t)
  const ran = await lowbit(['quantize', model, '-o', out, '--method', 'rtn', '--json'])
  t.is(ran.code, 0, ran.err)
  const report = JSON.parse(ran.out)
  t.like(report, { method: 'rtn', dryRun: false, out })
  t.is(report.layers.length, 3)
  t.true(report.layers.every((layer: { seconds: number }) => layer.seconds >= 0))
  t.regex(report.files[0].sha256, /^[0-9a-f]{64}$/)
  await t.notThrowsAsync(access(join(out, 'config.json')))
})

test('quantize --dry-run: prints the plan and writes nothing', async (t) => {
  const { model, out } = await checkpoint(t)
  const ran = await lowbit(['quantize', model, '-o', out, '--dry-run'])
  t.is(ran.code, 0)
  t.regex(ran.out, /t0\.weight +4 × 4 +w4g128 +gptq/)
  t.regex(ran.err, /Assumed method gptq/)
  await t.throwsAsync(access(out))
  await t.throwsAsync(access(`${out}.partial`))
})

test('quantize: flags become the options of the request', async (t) => {
  const { model, out } = await checkpoint(t)
  let request: Record<string, unknown> = {}
  const onRequest = (_: string, heard: Record<string, unknown>): void => {
    request = heard
  }
  const flags =
    '--method rtn --scheme w8 --observer mse --act-order off --damp 0.1 --block 64 --seed 3'
  const more =
    '--threads 2 --isa scalar --max-shard-size 1GB --ignore a b --layers re:a=b=w8g128 c=w3'
  const args = ['quantize', model, '-o', out, '--dry-run', ...flags.split(' '), ...more.split(' ')]
  t.is((await lowbit(args, { onRequest })).code, 0)
  t.like(request, { threads: 2, isa: 'scalar', maxShardBytes: 1e9, calibration: null })
  t.deepEqual(request['options'], {
    method: 'rtn',
    scheme: 'w8',
    format: 'auto',
    ignore: ['lm_head', 'a', 'b'],
    layers: [
      { pattern: 're:a=b', scheme: 'w8g128' },
      { pattern: 'c', scheme: 'w3' },
    ],
    observer: 'mse',
    actOrder: 'off',
    damp: 0.1,
    block: 64,
    seed: 3,
  })
})

test('eval --json: has the keys that are promised', async (t) => {
  const ran = await lowbit(['eval', NOVELS, '--window', '512', '--reference', NOVELS, '--json'])
  t.is(ran.code, 0, ran.err)
  const figures = JSON.parse(ran.out)
  t.like(figures, {
    model: NOVELS,
    tokens: 67_226,
    window: 512,
    windows: 131,
    bitsPerWeight: 16,
    bytes: 8_399_168,
  })
  t.is(figures.nll, 2)
  t.is(figures.perplexity, Math.exp(2))
  t.is(figures.reference.perplexity, Math.E)
  t.is(figures.meanKld, 255)
  // NumPy's percentile of 131 times 0 to 510.
  t.true(Math.abs(figures.p99Kld - 505) <= 1)
  t.is(figures.sameTop, 0.5)
})

test('eval: a text that is too short or no text has its code', async (t) => {
  const root = await tempFolder(t)
  await writeFile(join(root, 'short.txt'), 'Hello')
  const ran = await lowbit(['eval', NOVELS, '--text', join(root, 'short.txt')])
  t.regex(ran.err, /^error\[dataset\]: The text has 1 tokens|^error\[dataset\]/)
  t.regex((await lowbit(['eval', NOVELS, '--window', '4096'])).err, /^error\[context\]/)
})

test('run: prints the text on stdout and the usage on stderr', async (t) => {
  const ran = await lowbit(['run', NOVELS, '-p', 'Hello', '-n', '3', '--seed', '9'])
  t.is(ran.code, 0, ran.err)
  t.true(ran.out.endsWith('\n'))
  t.regex(ran.err, /\+ 3 tokens.*seed 9/)
  const json = JSON.parse((await lowbit(['run', NOVELS, '-p', 'Hello', '-n', '3', '--json'])).out)
  t.is(`${json.text}\n`, ran.out)
  t.like(json, { completionTokens: 3, finishReason: 'length' })
})

test('chat: answers each line and remembers the conversation', async (t) => {
  let prompts = 0
  const onRequest = (name: string): void => {
    if (name === 'session') prompts++
  }
  const lines = ['Hello', '', 'And?', '/reset', 'Again', '/exit', 'never']
  const ran = await lowbit(
    ['chat', NOVELS, '-n', '2', '--system', 'Be brief.'],
    { onRequest },
    lines,
  )
  t.is(ran.code, 0, ran.err)
  t.is(prompts, 3)
})

test('inspect: shows a table, and with --json everything', async (t) => {
  const ran = await lowbit(['inspect', NOVELS])
  t.is(ran.code, 0)
  t.regex(ran.out, /architecture +Qwen3ForCausalLM/)
  t.regex(ran.out, /parameters +4,197,120/)
  t.regex(ran.out, /bits per weight +16\.000/)
  const file = JSON.parse(
    (await lowbit(['inspect', join(NOVELS, 'model.safetensors'), '--json'])).out,
  )
  t.is(file.parameters, 4_197_120)
  t.is(file.schemes && Object.keys(file.schemes).length, 0)
})

test('inspect: what a file says cannot move the cursor', async (t) => {
  const root = await tempFolder(t)
  const file = join(root, 'a.safetensors')
  await writeFile(file, safetensors({ '\u001b[2J\u202e': counted([2]) }, { 'a\n': '\u001b[1m' }))
  const { out } = await lowbit(['inspect', file])
  t.false(out.includes('\u001b') || out.includes('\u202e'))
})

test('doctor: finds this machine', async (t) => {
  const ran = await lowbit(['doctor', '--json'])
  t.is(ran.code, 0)
  const { findings } = JSON.parse(ran.out)
  const whats = new Set(findings.map((finding: { what: string }) => finding.what))
  for (const what of ['node', 'cpu', 'threads', 'memory', 'disk', 'hub'])
    t.true(whats.has(what), what)
})
