import test, { type ExecutionContext } from 'ava'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import { createApi } from '../ts/api.ts'
import { nodeHost } from '../ts/host.node.ts'
import type { Progress } from '../ts/watching.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { checkpoint, lowbit } from './command-line.ts'
import { fakeBinding } from './fake-binding.ts'
import { failsWith, NOVELS, ROOT } from './helpers.ts'

const api = createApi(fakeBinding(), nodeHost)

/** The options that a command line asks the core for. */
async function asked(
  t: ExecutionContext,
  ...flags: readonly string[]
): Promise<{ readonly options: Record<string, unknown>; readonly calibration: unknown }> {
  const { model, out } = await checkpoint(t)
  let request: Record<string, unknown> = {}
  const onRequest = (_: string, heard: Record<string, unknown>): void => {
    request = heard
  }
  const ran = await lowbit(['quantize', model, '-o', out, '--dry-run', ...flags], { onRequest })
  t.is(ran.code, 0, ran.err)
  return { options: Object(request['options']), calibration: request['calibration'] }
}

test('--recipe: takes a preset, a file of ours and one of llm-compressor', async (t) => {
  const preset = await asked(t, '--recipe', 'smoothquant-gptq-w8a8')
  t.like(preset.options, { method: 'gptq', scheme: 'w8a8' })
  t.deepEqual(preset.options['transforms'], [{ kind: 'smoothQuant', strength: 0.8 }])
  const foreign = join(ROOT, 'test/fixtures/recipes/awq-config-groups.yaml')
  t.like((await asked(t, '--recipe', foreign)).options, { method: 'rtn', scheme: 'w4g128-asym' })
})

test('--method: names of a transform with its rounder', async (t) => {
  const { options, calibration } = await asked(t, '--method', 'awq', '--scheme', 'w4g64')
  t.deepEqual(options['transforms'], [{ kind: 'awq' }])
  t.like(options, { method: 'rtn', scheme: 'w4g64' })
  t.deepEqual(calibration, { samples: 128, length: 512 })
})

test('flags of the run become options of the request', async (t) => {
  const flags =
    '--prune sparsegpt --sparsity 1:4 --true-sequential --strict --allow-nonfinite zero ' +
    '--target-bpw 4.25 --candidates w3g128 w4g128 --observer imatrix-mse --act-order gar --no-all-experts'
  const { options } = await asked(t, ...flags.split(' '))
  t.deepEqual(options, {
    method: 'gptq',
    scheme: 'w4g128',
    format: 'auto',
    prune: { method: 'sparsegpt', sparsity: 0.25, pattern: '1:4' },
    trueSequential: true,
    strict: true,
    allowNonfinite: 'zero',
    targetBpw: 4.25,
    candidates: ['w3g128', 'w4g128'],
    observer: 'imatrix-mse',
    actOrder: 'gar',
    allExperts: false,
  })
})

test('calibration is asked for by whatever looks at inputs, and by nothing else', async (t) => {
  const looks = ['awq-w4a16', 'gptq-w4a16', 'w4-mixed']
  for (const name of looks) t.truthy((await asked(t, '--recipe', name)).calibration, name)
  for (const name of ['rtn-w4a16', 'fp8-dynamic', 'nf4', 'hqq-w4']) {
    t.is((await asked(t, '--recipe', name)).calibration, null, name)
  }
  const more = ['--observer', 'imatrix-mse']
  t.truthy((await asked(t, '--method', 'rtn', ...more)).calibration)
  t.is((await asked(t, '--method', 'rtn', '--prune', 'magnitude')).calibration, null)
  t.truthy((await asked(t, '--method', 'rtn', '--prune', 'wanda')).calibration)
  t.truthy((await asked(t, '--method', 'rtn', '--scheme', 'fp8a8st')).calibration)
})

test('recipe and method, or sparsity alone, are refused', async (t) => {
  const out = memoryStore()
  const both = { out, recipe: 'awq-w4a16', method: 'rtn' }
  t.regex((await failsWith(t, 'option', () => api.quantize(NOVELS, both))).message, /either/)
  await failsWith(t, 'option', () => api.quantize(NOVELS, { out, sparsity: 0.5 }))
  await failsWith(t, 'option', () => api.quantize(NOVELS, { out, prune: 'wanda', sparsity: 2 }))
  await failsWith(t, 'option', () => api.quantize(NOVELS, { out, compareText: [] }))
  t.is(out.files.size, 0)
})

test('the written recipe gives the same bytes and the same recipe again', async (t) => {
  const { model, root } = await prepared(t)
  const text = join(root, 'mine.txt')
  await writeFile(text, 'It was a dark and stormy night; the rain fell. '.repeat(300))
  const first = await api.quantize(model, {
    out: join(root, 'first'),
    recipe: 'awq-gptq-w4a16',
    calibration: [text],
    samples: 4,
    length: 64,
    maxShardBytes: 1 << 20,
  })
  const file = join(root, 'first/recipe.yaml')
  const recipe = parse(await readFile(file, 'utf8'))
  t.like(recipe.calibration, { samples: 4, length: 64 })
  t.is(recipe.calibration.files[0].name, 'mine.txt')
  t.regex(recipe.calibration.files[0].sha256, /^[0-9a-f]{64}$/)
  t.is(recipe['max-shard-bytes'], 1 << 20)

  // The text is looked for beside the recipe first.
  await mkdir(join(root, 'elsewhere'))
  await rename(text, join(root, 'elsewhere/mine.txt'))
  const moved = join(root, 'elsewhere/recipe.yaml')
  await writeFile(moved, await readFile(file))
  const second = await api.quantize(model, { out: join(root, 'second'), recipe: moved })
  t.deepEqual(second.files, first.files)

  const other = join(root, 'elsewhere/mine.txt')
  await writeFile(other, 'Another text altogether, and long enough. '.repeat(300))
  const again = { out: join(root, 'third'), recipe: moved }
  const error = await failsWith(t, 'dataset', () => api.quantize(model, again))
  t.regex(error.message, /not the mine\.txt that the recipe was made with/)
  const third = await api.quantize(model, { ...again, calibration: [other] })
  t.true(third.notes.includes('The recipe was made with another mine.txt'))
})

test('targetBpw: schemes are chosen first and become rules of the recipe', async (t) => {
  const { model, root } = await prepared(t)
  const budget = { targetBpw: 4.25, samples: 2, length: 32 }
  const first = await api.quantize(model, { ...budget, out: join(root, 'first') })
  t.like(first.survey, { targetBpw: 4.25, bitsPerWeight: 4.5, measuredTokens: 512 })
  const text = await readFile(join(root, 'first/recipe.yaml'), 'utf8')
  t.regex(text, /^# Schemes were chosen for 4\.25 bits per weight\.$/m)
  t.like(parse(text).modifiers[0].gptq, { scheme: 'w4g128', layers: { 't0.weight': 'w8' } })
  t.is(parse(text).modifiers[0].gptq['target-bpw'], undefined)
  const recipe = join(root, 'first/recipe.yaml')
  const second = await api.quantize(model, { out: join(root, 'second'), recipe })
  const weights = (files: typeof first.files): unknown =>
    files.find(({ name }) => name === 'model.safetensors')
  t.deepEqual(weights(second.files), weights(first.files))
  t.is(second.survey, undefined)
})

test('targetBpw: a run that was stopped goes on without another survey', async (t) => {
  const { model, out, root } = await prepared(t)
  const budget = { targetBpw: 4.25, samples: 2, length: 32 }
  const whole = await api.quantize(model, { ...budget, out: join(root, 'whole') })
  const abort = new AbortController()
  const stop = ({ stage, done }: Progress): void => {
    if (stage === 'quantize' && done === 2) abort.abort()
  }
  const stopped = { ...budget, out, signal: abort.signal, onProgress: stop }
  await failsWith(t, 'aborted', () => api.quantize(model, stopped))
  const stages = new Set<string>()
  const onProgress = ({ stage }: Progress): void => void stages.add(stage)
  const report = await api.quantize(model, { ...budget, out, onProgress })
  t.true(report.resumed)
  t.false(stages.has('survey'))
  t.deepEqual(report.files, whole.files)
})

test('compareText: what both write is in the report, on screen and in the card', async (t) => {
  const { model, out } = await prepared(t)
  const flags = ['--method', 'rtn', '--compare-text', 'Once upon', 'Dear']
  const ran = await lowbit(['quantize', model, '-o', out, ...flags])
  t.is(ran.code, 0, ran.err)
  t.regex(ran.out, /Once upon\n {2}before: .+\n {2}after: {2}.+\n/)
  const card = await readFile(join(out, 'README.md'), 'utf8')
  t.regex(card, /## Text before and after[\s\S]*\*\*Dear\*\*\n\n- before: \S.*\n- after: \S/)
})

test('the card keeps what the original says about itself', async (t) => {
  const { model, out } = await prepared(t)
  const front =
    'license: other\nlicense_name: x\nlanguage: [en, zh]\ntags: [chat]\nmodel-index: [1]\n'
  await writeFile(join(model, 'README.md'), `---\n${front}---\n# Original\n`)
  await api.quantize(model, { out, recipe: 'rtn-w4a16' })
  const [, head = '', body = ''] =
    /^---\n([\s\S]*?)---\n([\s\S]*)$/.exec(await readFile(join(out, 'README.md'), 'utf8')) ?? []
  t.deepEqual(parse(head), {
    license: 'other',
    license_name: 'x',
    language: ['en', 'zh'],
    tags: ['chat', 'compressed-tensors', 'w4g128', 'lowbit'],
    library_name: 'lowbit',
  })
  t.regex(body, /\| vLLM \| yes \|/)
  t.regex(body, /Tensor parallelism: 1/)
  t.regex(body, /```yaml\n[\s\S]*- rtn:\n {6}scheme: w4g128/)
})

test('report: memory of each stage, engines, ranks, the recipe and its steps', async (t) => {
  const { model, out } = await prepared(t)
  const seen: Progress[] = []
  const onProgress = (progress: Progress): void => {
    seen.push(progress)
  }
  const report = await api.quantize(model, { out, recipe: 'awq-w4a16', onProgress })
  t.is(report.recipe, 'awq-w4a16')
  t.deepEqual(report.plan.options?.transforms, [{ kind: 'awq' }])
  t.true(report.memory.some(({ stage, rssBytes }) => stage === 'quantize' && rssBytes > 1e6))
  t.is(report.engines.length, 7)
  t.is(report.tensorParallel[0]?.ranks, 1)
})

test('recipes: lists presets, prints one that runs, names the nearest', async (t) => {
  const list = await lowbit(['recipes'])
  t.regex(list.out, /^gptq-w4a16 +GPTQ/)
  const one = await lowbit(['recipes', 'awq-w4a16'])
  t.like(parse(one.out), { lowbit: 1, modifiers: [{ awq: {} }, { rtn: { scheme: 'w4g128' } }] })
  const wrong = await lowbit(['recipes', 'awq-w4a61'])
  t.is(wrong.code, 2)
  t.regex(wrong.err, /did you mean "awq-w4a16"/)
  const { recipes } = JSON.parse((await lowbit(['recipes', '--json'])).out)
  t.true(recipes.length > 10)
  t.is((await api.catalog()).recipes.length, recipes.length)
})

/** A tiny checkpoint with a tokenizer. */
async function prepared(
  t: ExecutionContext,
): Promise<{ model: string; out: string; root: string }> {
  const made = await checkpoint(t)
  const tokenizer = await readFile(join(NOVELS, 'tokenizer.json'))
  await writeFile(join(made.model, 'tokenizer.json'), tokenizer)
  return made
}
