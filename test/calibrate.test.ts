import test from 'ava'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createApi } from '../ts/api.ts'
import { nodeHost } from '../ts/host.node.ts'
import type { Progress } from '../ts/watching.ts'
import { sha256 } from '../ts/sha256.ts'
import { fsStore } from '../ts/store/fs.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { chatTemplate } from '../ts/text/chat.ts'
import { needTokenizer, openTokenizer } from '../ts/text/tokenizer.ts'
import { dirtyRows, english, folderOf, linesOf, paragraph } from './calibration-sources.ts'
import { lowbit } from './command-line.ts'
import { fakeBinding } from './fake-binding.ts'
import { failsWith, NOVELS } from './helpers.ts'

const api = createApi(fakeBinding({ context: 1024 }), nodeHost)
const small = { samples: 8, length: 64, model: NOVELS } as const

test('calibrate: dirty English and Chinese give the same bytes twice, half of each', async (t) => {
  const { root, data } = await folderOf(t, {
    'rows.jsonl': dirtyRows(60),
    'book.txt': Array.from({ length: 60 }, (_, i) => paragraph(english, 100 + i)).join('\n\n'),
  })
  const options = { ...small, mix: { zh: 1, en: 1 } }
  const [a, b] = [join(root, 'a/set.jsonl'), join(root, 'b/set.jsonl')]
  const seen: Progress[] = []
  const onProgress = (progress: Progress): void => void seen.push(progress)
  const report = await api.calibrate([data], { ...options, out: a, onProgress })
  t.deepEqual([...new Set(seen.map(({ stage }) => stage))], ['read', 'tokenize'])
  t.true(seen.every(({ done, total }) => done <= total))
  await api.calibrate([data], { ...options, out: b })
  for (const name of ['set.jsonl', 'set.manifest.json']) {
    t.deepEqual(await readFile(join(root, 'a', name)), await readFile(join(root, 'b', name)))
  }
  t.deepEqual(report.languages, { en: 0.5, zh: 0.5 })
  t.like(report, { samples: 8, length: 64, tokens: 512, exact: true, notes: [] })
  t.deepEqual(report.dropped, { duplicate: 1, language: 1, short: 1 })
  t.true((report.changed['markup'] ?? 0) >= 60 && (report.changed['control'] ?? 0) >= 60)
  t.true((report.coverage?.seen ?? 0) > 50 && report.coverage?.vocabulary === 4096)
  const lines = await linesOf(a)
  t.true(lines.every(({ tokens }) => tokens?.length === 64))
  // Any beginning has the mix of the whole.
  t.is(lines.slice(0, 4).filter(({ language }) => language === 'zh').length, 2)
  const other = await api.calibrate([data], { ...options, out: a, seed: 1, force: true })
  t.is(other.samples, 8)
  t.notDeepEqual(await linesOf(a), lines)
})

test('calibrate: the manifest names sources by digest and holds neither folders nor times', async (t) => {
  const { root, data, out } = await folderOf(t, { 'rows.jsonl': dirtyRows(40) })
  await api.calibrate([data], { ...small, out })
  const text = await readFile(join(root, 'set.manifest.json'), 'utf8')
  t.false(text.includes(root) || /20\d\d-|seconds/.test(text))
  const hash = sha256()
  hash.update(await readFile(join(data, 'rows.jsonl')))
  const set = sha256()
  set.update(await readFile(out))
  const manifest = JSON.parse(text)
  t.like(manifest.sources[0], { name: 'data/rows.jsonl', format: 'jsonl', sha256: hash.hex() })
  t.like(manifest.set, { file: 'set.jsonl', samples: 8, sha256: set.hex() })
  t.like(manifest.options, { select: 'random', length: 64, seed: 0 })
  t.regex(manifest.model.tokenizer, /^[0-9a-f]{64}$/)
})

test('calibrate: without a model the set is texts and conversations that fill as many tokens', async (t) => {
  const chats = Array.from({ length: 40 }, (_, i) =>
    JSON.stringify({
      messages: [
        { role: 'user', content: `<b>${english(i)}</b>` },
        { role: 'assistant', content: english(i + 50) },
      ],
    }),
  )
  const { data, out } = await folderOf(t, { 'chats.jsonl': chats.join('\n') })
  const report = await api.calibrate(data, { out, samples: 4, length: 64 })
  t.false(report.exact)
  t.is(report.coverage, null)
  t.true(report.tokens >= 256 && report.tokens < 256 + 64, `${report.tokens}`)
  const lines = await linesOf(out)
  t.true(lines.every(({ messages, tokens }) => messages?.length === 2 && tokens === undefined))
  t.false(JSON.stringify(lines).includes('<b>'))
})

test('calibrate: every shape of row is read, conversations through the chat template', async (t) => {
  const rows = [
    { messages: [{ role: 'user', content: [{ type: 'text', text: english(1) }] }] },
    {
      conversations: [
        { from: 'human', value: english(2) },
        { from: 'gpt', value: english(3) },
      ],
    },
    { instruction: english(4), input: english(5), output: english(6) },
    { text: english(7) },
    english(8),
  ]
  const { data, out } = await folderOf(t, { 'rows.json': JSON.stringify(rows) })
  const { documents } = await api.calibrate(data, { out, samples: 1, length: 16 })
  t.is(documents.kept, 5)
  const opened = needTokenizer(await openTokenizer(fsStore(NOVELS)), NOVELS)
  await api.calibrate(data, { out, samples: 8, length: 32, model: NOVELS, force: true })
  const text = (await linesOf(out))
    .flatMap(({ tokens }) => opened.decode(tokens ?? [], true))
    .join('')
  t.regex(text, /<\|im_start\|>user\nOn day 2 /)
  t.regex(text, /<\|im_start\|>assistant\nOn day 3 /)
  t.false(text.includes('assistant\n<|im_end|>'))
})

test('calibrate: strategies choose what they say', async (t) => {
  const similar = Array.from({ length: 40 }, (_, i) => paragraph(english, i))
  const odd = `${'quantum chromodynamics lattice gauge hadron spectrum '.repeat(12)}unlike the rest`
  const texts = [...similar.slice(0, 20), odd, ...similar.slice(20)]
  const { data, out } = await folderOf(t, {
    'rows.jsonl': texts.map((text) => JSON.stringify({ text })).join('\n'),
  })
  const options = { ...small, out, samples: 4, pack: false, length: 48, force: true }
  await api.calibrate(data, { ...options, select: 'diverse' })
  t.true((await linesOf(out)).some(({ text }) => text?.includes('chromodynamics')))

  const lengths = ['a', 'b', 'c'].flatMap((_, i) =>
    Array.from({ length: i === 0 ? 60 : 2 }, (__, k) =>
      Array.from({ length: 8 * 4 ** i }, (___, j) => english(100_000 * i + 100 * k + j)).join(' '),
    ),
  )
  const long = await folderOf(t, {
    'rows.jsonl': lengths.map((text) => JSON.stringify({ text })).join('\n'),
  })
  const given = { out: long.out, samples: 3, length: 128, force: true, model: NOVELS, pack: false }
  await api.calibrate(long.data, { ...given, select: 'length' })
  const days = (await linesOf(long.out)).map(({ text }) =>
    Math.floor(Number(/day (\d+)/.exec(text ?? '')?.[1]) / 100_000),
  )
  t.deepEqual(
    days.toSorted((a, b) => a - b),
    [0, 1, 2],
  )
})

test('calibrate: perplexity takes samples from every level of the model', async (t) => {
  const { data, out } = await folderOf(t, { 'rows.jsonl': dirtyRows(60) })
  let calls = 0
  const fake = fakeBinding({ context: 1024 })
  const scored = createApi(
    {
      ...fake,
      score: async () => ({
        sums: JSON.stringify({ positions: 1, nll: calls++ / 10 }),
        kl: new Float32Array(),
      }),
    },
    nodeHost,
  )
  const report = await scored.calibrate(data, {
    ...small,
    out,
    select: 'perplexity',
    languages: ['en'],
  })
  const { min = 0, median = 0, max = 0 } = report.perplexity ?? {}
  t.true(calls > 16)
  const most = Math.exp((calls - 1) / 10)
  t.true(min === 1 && median < Math.sqrt(most) * 2 && max > most ** 0.8, `${min} ${median} ${max}`)
  await failsWith(t, 'option', () => api.calibrate(data, { select: 'perplexity' }))
  await failsWith(t, 'context', () =>
    createApi(fakeBinding({ context: 32 }), nodeHost).calibrate(data, {
      ...small,
      select: 'perplexity',
    }),
  )
})

test('calibrate: a template that refuses is an error that names the row, or a counted skip', async (t) => {
  const template = '{{ raise_exception("no system") }}'
  t.throws(() => chatTemplate(template, {}, 'x').render([{ role: 'user', content: 'a' }]))
  const model = memoryStore([
    ['tokenizer.json', new Uint8Array(await readFile(join(NOVELS, 'tokenizer.json')))],
    ['chat_template.jinja', new TextEncoder().encode(template)],
  ])
  const row = JSON.stringify({ messages: [{ role: 'user', content: paragraph(english, 1) }] })
  const source = { name: 'a.jsonl', bytes: new TextEncoder().encode(`${row}\n${dirtyRows(20)}`) }
  const error = await failsWith(t, 'template', () =>
    api.calibrate(source, { ...small, samples: 99, model }),
  )
  t.regex(error.message, /a\.jsonl line 1/)
  const report = await api.calibrate(source, { ...small, samples: 99, model, skipBad: true })
  t.is(report.dropped['template'], 1)
})

test('lowbit calibrate: writes a set, shows the report, and --json prints it', async (t) => {
  const { data, out } = await folderOf(t, { 'rows.jsonl': dirtyRows(60) })
  const args = ['calibrate', data, '-o', out, '--model', NOVELS, '--samples', '8', '--length', '64']
  const { code, out: shown, err } = await lowbit([...args, '--mix', 'en=0.5,zh=0.5'])
  t.is(code, 0, err)
  t.regex(
    shown,
    /^written +.*set\.jsonl\nmanifest +.*set\.manifest\.json\nset +8 samples of 64 tokens/,
  )
  t.regex(shown, /languages +en 50\.0 %, zh 50\.0 %\n/)
  t.regex(shown, /left out +1 duplicate, 1 language, 1 short\n/)
  const again = await lowbit(args)
  t.is(again.code, 1)
  t.regex(again.err, /^error\[output-path\]: The output exists, .*use --force/)
  const forced = await lowbit([...args, '--force', '--json'])
  t.like(JSON.parse(forced.out), { samples: 8, tokens: 512 })
  for (const [flags, pattern] of [
    [['--mix', 'half'], /shares such as en=0.5,zh=0.5/],
    [['--select', 'best'], /Allowed choices are random, diverse, length, perplexity/],
    [['--languages', 'english'], /no language "english"/],
    [['--without', 'html'], /Allowed choices are markup/],
  ] as const) {
    const wrong = await lowbit([...args, '--force', ...flags])
    t.is(wrong.code, 2)
    t.regex(wrong.err, pattern)
  }
})
