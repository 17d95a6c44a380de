/** Scales of the KV cache: calibrated, written, shown, kept, and used when a model runs. */
import test from 'ava'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Lowbit } from '../ts/api.ts'
import { enginesFor } from '../ts/quantize/engines.ts'
import { memoryStore } from '../ts/store/memory.ts'
import type { MemoryStore } from '../ts/store/memory.ts'
import { NAME, openApi } from './binding.ts'
import { checkpoint, lowbit } from './command-line.ts'
import { failsWith, NOVELS, ROOT } from './helpers.ts'

const api = await openApi()
const set = { method: 'rtn', samples: 4, length: 64 } as const
const run = { device: 'cpu', compute: 'f32' } as const
const text = (await readFile(join(ROOT, 'data/eval.txt'), 'utf8')).slice(0, 5000)

let made: Promise<MemoryStore> | undefined

/** novels-4m with scales per head, made once. */
function cached(): Promise<MemoryStore> {
  const make = async (): Promise<MemoryStore> => {
    const out = memoryStore()
    await api.quantize(NOVELS, { out, ...set, scheme: 'w8', kvCache: 'fp8-head' })
    return out
  }
  made ??= make()
  return made
}

test(`${NAME}: scales stand in the file, in config, recipe, card and report`, async (t) => {
  const out = memoryStore()
  const report = await api.quantize(NOVELS, { out, ...set, kvCache: 'fp8' })
  t.is(report.kvCache?.scheme, 'fp8')
  t.is(report.kvCache?.blocks.length, 4)
  t.deepEqual(report.calibration, { samples: 4, length: 64, text: 'calibration.txt' })
  const scales = report.kvCache?.blocks.flatMap(({ keys, values }) => [keys, values].flat()) ?? []
  t.is(scales.length, 8)
  t.true(scales.every((scale) => scale > 0.001 && scale < 0.1))
  const found = await api.inspect(out)
  t.is(found.kvCache, 'fp8')
  const tensor = found.tensors.find(({ name }) => name === 'model.layers.3.self_attn.v_scale')
  t.like(tensor, { dtype: 'BF16', shape: [1], scheme: null })
  t.regex(await textIn(out, 'recipe.yaml'), /^kv-cache: fp8$/m)
  t.regex(await textIn(out, 'README.md'), /\| steps \| rtn w4g128, KV cache fp8 \|/)
  const config: { quantization_config: Record<string, unknown> } = JSON.parse(
    await textIn(out, 'config.json'),
  )
  t.like(config.quantization_config['kv_cache_scheme'], { num_bits: 8, strategy: 'tensor' })
  const again = memoryStore()
  await api.quantize(NOVELS, { out: again, recipe: await textIn(out, 'recipe.yaml') })
  t.deepEqual(await bytesIn(again), await bytesIn(out), 'its recipe makes the same bytes')
})

test(`${NAME}: the cache of a model is rounded with its scales, and costs little`, async (t) => {
  const out = await cached()
  const reference = await api.load(out, run)
  t.is(reference.info.kvCache ?? null, null)
  for (const kvCache of ['fp8', 'int8'] as const) {
    const figures = await api.evaluate(out, { ...run, text, kvCache, reference })
    t.deepEqual(figures.kvCache, { scheme: kvCache, scales: 'checkpoint' })
    t.true((figures.meanKld ?? 0) > 1e-7, `${kvCache}: ${figures.meanKld}`)
    t.true((figures.meanKld ?? 1) < 0.01, `${kvCache}: ${figures.meanKld}`)
  }
  const plain = await api.evaluate(out, { ...run, text, reference })
  t.is(plain.meanKld, 0)
  await reference.dispose()
})

test(`${NAME}: without scales FP8 is taken as it is and integers have their own`, async (t) => {
  const scales = { fp8: 'one', int8: 'token' } as const
  for (const kvCache of ['fp8', 'int8'] as const) {
    const figures = await api.evaluate(NOVELS, { ...run, text, kvCache, reference: NOVELS })
    t.deepEqual(figures.kvCache, { scheme: kvCache, scales: scales[kvCache] })
    t.true((figures.meanKld ?? 1) < 0.01 && (figures.meanKld ?? 0) > 0)
  }
})

test(`${NAME}: compressed-tensors keeps the scales, other formats say that they are gone`, async (t) => {
  const source = await cached()
  const kept = memoryStore()
  const { notes } = await api.convert(source, {
    out: kept,
    format: 'compressed-tensors',
    scheme: 'w8g128',
  })
  t.deepEqual(
    notes.filter((note) => /KV cache/.test(note)),
    [],
  )
  t.is((await api.inspect(kept)).kvCache, 'fp8-head')
  const floats = memoryStore()
  const told = await api.convert(source, { out: floats, format: 'float' })
  t.regex(told.notes.join('\n'), /scales of the KV cache \(fp8-head\) are left out: format float/)
  t.false((await api.inspect(floats)).tensors.some(({ name }) => name.endsWith('k_scale')))
})

const REFUSED: readonly (readonly [
  name: string,
  run: (lowbit: Lowbit) => Promise<unknown>,
  code: 'option' | 'unsupported',
  message: RegExp,
])[] = [
  [
    'a format without a place',
    (of) => of.quantize(NOVELS, { out: memoryStore(), ...set, kvCache: 'fp8', format: 'gptq' }),
    'option',
    /format gptq has no place for the scales.*compressed-tensors/,
  ],
  [
    'a cache of narrow vectors',
    (of) => of.quantize(model('tiny-deepseek-v2'), { out: memoryStore(), ...set, kvCache: 'fp8' }),
    'unsupported',
    /multi-head latent attention/,
  ],
  [
    'a model without a cache',
    (of) => of.quantize(model('tiny-bert'), { out: memoryStore(), ...set, kvCache: 'fp8' }),
    'unsupported',
    /keeps no keys and values/,
  ],
  [
    'a model without a cache, run',
    (of) => of.load(model('tiny-bert'), { kvCache: 'fp8' }),
    'unsupported',
    /keeps no keys and values/,
  ],
  [
    'the GPU',
    (of) => of.load(NOVELS, { device: 'gpu', kvCache: 'int8' }),
    'unsupported',
    /kvCache int8 on the GPU.*device "cpu"/,
  ],
]

for (const [name, call, code, message] of REFUSED) {
  test(`${NAME}: refuses scales of the cache for ${name}`, async (t) => {
    const error = await failsWith(t, code, () => call(api))
    t.regex(error.message, message)
  })
}

test('--kv-cache: becomes the option, and asks for text', async (t) => {
  const at = await checkpoint(t)
  let request: Record<string, unknown> = {}
  const onRequest = (_: string, heard: Record<string, unknown>): void => {
    request = heard
  }
  const args = ['quantize', at.model, '-o', at.out, '--dry-run', '--method', 'rtn']
  t.is((await lowbit([...args, '--kv-cache', 'int8-head'], { onRequest })).code, 0)
  t.like(request, { calibration: { samples: 128, length: 512 } })
  t.like(request['options'], { method: 'rtn', kvCache: 'int8-head' })
  t.is((await lowbit(['eval', NOVELS, '--kv-cache', 'fp8'], { onRequest })).code, 0)
  t.like(request, { kvCache: 'fp8' })
  const wrong = await lowbit([...args, '--kv-cache', 'fp4'])
  t.is(wrong.code, 2)
  t.regex(wrong.err, /fp8, int8, fp8-head, int8-head/)
})

test('engines: what vLLM does with scales of the cache', (t) => {
  const vllm = (kvCache: string | null): string | undefined => {
    const output = { format: 'compressed-tensors', layers: [], ignored: [], kvCache }
    const found = enginesFor(output).find(({ engine }) => engine === 'vLLM')
    return `${found?.loads}: ${found?.note ?? ''}`
  }
  t.is(vllm('fp8'), vllm(null))
  t.regex(vllm('fp8-head') ?? '', /^partly: .*FlashAttention/)
  t.regex(vllm('int8') ?? '', /^no: .*FP8/)
})

function model(name: string): string {
  return join(ROOT, 'models', name)
}

async function textIn(store: MemoryStore, name: string): Promise<string> {
  return new TextDecoder().decode(await store.read(name))
}

async function bytesIn(store: MemoryStore): Promise<string> {
  return Buffer.from(await store.read('model.safetensors')).toString('base64')
}
