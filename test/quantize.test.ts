import test, { type ExecutionContext } from 'ava'
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createApi, type Lowbit } from '../ts/api.ts'
import { LowbitError } from '../ts/error.ts'
import { nodeHost } from '../ts/host.node.ts'
import type { Host } from '../ts/host.ts'
import type { Progress } from '../ts/watching.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { fsOutput } from '../ts/store/output.ts'
import { type Fake, fakeBinding } from './fake-binding.ts'
import { type Fault, faultyFs } from './faults.ts'
import { counted, failsWith, NOVELS, safetensors, tempFolder } from './helpers.ts'

const api = createApi(fakeBinding(), nodeHost)

/** A checkpoint of a few tensors, and where to put the result. */
async function setUp(t: ExecutionContext): Promise<{ model: string; out: string; root: string }> {
  const root = await tempFolder(t)
  const model = join(root, 'model')
  await mkdir(model)
  const tensors = {
    'a.weight': counted([4, 4]),
    'b.weight': counted([8, 2], 3),
    norm: counted([4], 5),
  }
  await writeFile(join(model, 'model.safetensors'), safetensors(tensors))
  await writeFile(join(model, 'config.json'), '{"model_type":"x","big":9007199254740993}')
  await writeFile(join(model, 'README.md'), '---\nlicense: mit\n---\n# Original\n')
  await writeFile(join(model, 'tokenizer.json'), await readFile(join(NOVELS, 'tokenizer.json')))
  await mkdir(join(model, 'extra'))
  await writeFile(join(model, 'extra/code.py'), 'pass\n')
  await writeFile(join(model, 'pytorch_model.bin'), 'weights')
  return { model, out: join(root, 'out'), root }
}

async function contents(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = names
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  const texts = await Promise.all(
    files.map(async (file) => [
      file.slice(folder.length + 1),
      (await readFile(file)).toString('base64'),
    ]),
  )
  return Object.fromEntries(texts)
}

test('quantize: writes weights, config, card, recipe and what lay beside the weights', async (t) => {
  const { model, out } = await setUp(t)
  const report = await api.quantize(model, { out, method: 'rtn' })
  const names = Object.keys(await contents(out)).toSorted()
  const expected = [
    'README.md',
    'README.original.md',
    'config.json',
    'extra/code.py',
    'model.safetensors',
    'recipe.yaml',
    'tokenizer.json',
  ]
  t.deepEqual(names, expected)
  t.deepEqual(
    report.files.map((file) => file.name),
    expected,
  )
  t.regex(await readFile(join(out, 'README.md'), 'utf8'), /^---\nlicense: mit\n/)
  t.regex(await readFile(join(out, 'recipe.yaml'), 'utf8'), / {2}- rtn:\n {6}scheme: w4g128/)
  t.deepEqual((await readdir(join(out, '..'))).toSorted(), ['model', 'out'])
  t.like(report, { dryRun: false, method: 'rtn', calibration: null, resumed: false })
})

test('quantize: with nothing but out takes GPTQ and the text that ships, and says so', async (t) => {
  const { model, out } = await setUp(t)
  const report = await api.quantize(model, { out })
  t.like(report, { method: 'gptq', scheme: 'w4g128', format: 'compressed-tensors' })
  t.like(report.calibration, { samples: 128, length: 512, text: 'calibration.txt' })
  t.regex(report.notes.join('\n'), /Assumed method gptq, scheme w4g128, format compressed-tensors/)
  t.regex(report.notes.join('\n'), /128 × 512 tokens of the public-domain text/)
})

test('quantize: into a store gives the same bytes as into a folder', async (t) => {
  const { model, out } = await setUp(t)
  const store = memoryStore()
  const [a, b] = [await api.quantize(model, { out }), await api.quantize(model, { out: store })]
  t.deepEqual(a.files, b.files)
  t.true(store.files.has('model.safetensors'))
})

test('quantize: the config goes to the core as it was written', async (t) => {
  const { model, out } = await setUp(t)
  let text = ''
  const fake = fakeBinding()
  const spied = { ...fake, plan: (request: string) => fake.plan((text = request)) }
  await createApi(spied, nodeHost).quantize(model, { out, dryRun: true })
  t.true(text.includes('9007199254740993'))
  await t.throwsAsync(readdir(out))
})

test('quantize: refuses outputs that would destroy something', async (t) => {
  const { model, out, root } = await setUp(t)
  const to = (folder: string, force = false): Promise<unknown> =>
    api.quantize(model, { out: folder, method: 'rtn', force })
  await symlink(model, join(root, 'alias'))
  for (const folder of [model, join(model, 'sub/deep'), root, join(root, 'alias')]) {
    await failsWith(t, 'output-path', () => to(folder, true))
  }
  await writeFile(join(root, 'file'), '')
  await failsWith(t, 'output-path', () => to(join(root, 'file'), true))
  await failsWith(t, 'output-path', () => to(join(root, 'n'.repeat(300))))
  await to(out)
  const error = await failsWith(t, 'output-path', () => to(out))
  t.regex(error.message, /use --force/)
  await t.notThrowsAsync(to(out, true))
  await mkdir(join(root, 'precious'))
  await writeFile(join(root, 'precious/letter.txt'), 'x')
  await failsWith(t, 'output-path', () => to(join(root, 'precious'), true))
})

test('quantize: an aborted run is gone on with and gives the same bytes', async (t) => {
  const { model, out, root } = await setUp(t)
  const whole = await api.quantize(model, { out: join(root, 'whole'), method: 'rtn' })
  const abort = new AbortController()
  const onProgress = ({ done }: Progress): void => {
    if (done === 2) abort.abort()
  }
  const options = { out, method: 'rtn' } as const
  await failsWith(t, 'aborted', () =>
    api.quantize(model, { ...options, signal: abort.signal, onProgress }),
  )
  await t.throwsAsync(readdir(out))
  t.true((await readdir(`${out}.partial`)).includes('journal.jsonl'))
  const report = await api.quantize(model, options)
  t.true(report.resumed)
  t.deepEqual(report.files, whole.files)
})

test('quantize: another option or a fresh start does not go on with an unfinished run', async (t) => {
  const { model, out } = await setUp(t)
  await stopAfter(t, api, model, { out, method: 'rtn' })
  const error = await failsWith(t, 'resume-mismatch', () =>
    api.quantize(model, { out, method: 'rtn', seed: 7 }),
  )
  t.is(error.code, 'resume-mismatch')
  const report = await api.quantize(model, { out, method: 'rtn', seed: 7, fresh: true })
  t.false(report.resumed)
})

test('quantize: a torn line of the journal is left out', async (t) => {
  const { model, out } = await setUp(t)
  await stopAfter(t, api, model, { out, method: 'rtn' })
  const journal = `${out}.partial/journal.jsonl`
  const whole = await readFile(journal, 'utf8')
  await writeFile(journal, `${whole}{"done":"b.we`)
  t.true((await api.quantize(model, { out, method: 'rtn' })).resumed)
})

test('quantize: a second run on the same output is locked out', async (t) => {
  const { model, out } = await setUp(t)
  const slow = createApi(fakeBinding({ stepMs: 20 }), nodeHost)
  let first: Promise<unknown> = Promise.resolve()
  await new Promise<void>((begun) => {
    const onProgress = ({ stage }: Progress): void => {
      if (stage === 'quantize') begun()
    }
    first = slow.quantize(model, { out, method: 'rtn', onProgress })
  })
  await failsWith(t, 'locked', () => api.quantize(model, { out, method: 'rtn' }))
  await t.notThrowsAsync(first)
})

test('quantize: progress goes up in every stage and ends with a forecast of none', async (t) => {
  const { model, out } = await setUp(t)
  const seen: Progress[] = []
  await api.quantize(model, { out, onProgress: (progress) => seen.push(progress) })
  const stages = [...new Set(seen.map(({ stage }) => stage))]
  t.deepEqual(stages, ['tokenize', 'quantize', 'copy', 'check'])
  t.true(seen.every(({ done, total }) => done <= total))
  t.is(seen.at(-1)?.eta, 0)
})

test('quantize: whichever call of the disk fails, the next run finishes with the same bytes', async (t) => {
  const { model, root } = await setUp(t)
  const options = { method: 'rtn' } as const
  await api.quantize(model, { ...options, out: join(root, 'whole') })
  const whole = await contents(join(root, 'whole'))
  for (const code of ['ENOSPC', 'EIO']) {
    const fault = { count: 0, at: 0, code }
    for (let at = 1; ; at += 2) {
      Object.assign(fault, { at, count: 0 })
      const out = join(root, `${code}-${at}`)
      if (await failsOnce(t, model, out, fault))
        await api.quantize(model, { ...options, out, force: true })
      t.deepEqual(await contents(out), whole, `${code} at call ${at}`)
      if (fault.count < at) break
    }
    t.true(fault.at > 60, `only ${fault.at} calls were made to fail`)
  }
})

/** Runs with one failing call; whether the run failed. Some failures hit calls that may fail. */
async function failsOnce(
  t: ExecutionContext,
  model: string,
  out: string,
  fault: Fault,
): Promise<boolean> {
  const host: Host = {
    ...nodeHost,
    output: (place, options) => fsOutput(place, options, faultyFs(fault)),
  }
  try {
    await createApi(fakeBinding(), host).quantize(model, { out, method: 'rtn' })
    return false
  } catch (error) {
    if (!(error instanceof LowbitError)) throw error
    t.is(error.code, fault.code === 'ENOSPC' ? 'disk-full' : 'io', error.message)
    return true
  }
}

async function stopAfter(
  t: ExecutionContext,
  lowbit: Lowbit,
  model: string,
  options: { out: string; method: string },
): Promise<void> {
  const abort = new AbortController()
  const onProgress = ({ stage, done }: Progress): void => {
    if (stage === 'quantize' && done === 1) abort.abort()
  }
  await failsWith(t, 'aborted', () =>
    lowbit.quantize(model, { ...options, onProgress, signal: abort.signal }),
  )
}

test('quantize: calibration text is refused when it is no text or too little', async (t) => {
  const { model, out, root } = await setUp(t)
  const fake: Fake = {}
  const lowbit = createApi(fakeBinding(fake), nodeHost)
  await writeFile(join(root, 'bad.txt'), Uint8Array.of(0xff, 0xfe))
  const given = (calibration: readonly string[] | { text: string }): Promise<unknown> =>
    lowbit.quantize(model, { out, calibration })
  await failsWith(t, 'dataset', () => given([join(root, 'bad.txt')]))
  await failsWith(t, 'unsupported', () => given([join(root, 'rows.csv')]))
  await failsWith(t, 'not-found', () => given([join(root, 'absent.txt')]))
  await failsWith(t, 'dataset', () => given({ text: 'too short' }))
  const report = await lowbit.quantize(model, { out, calibration: { text: 'a b c '.repeat(400) } })
  t.regex(report.notes.join('\n'), /gives \d+ of 128 samples/)
})
