import test from 'ava'
import { createHash } from 'node:crypto'
import { createApi, type Lowbit } from '../../ts/api.ts'
import { nodeHost } from '../../ts/host.node.ts'
import { loadedOf } from '../../ts/loaded.ts'
import { memoryStore, type MemoryStore } from '../../ts/store/memory.ts'
import { openBinding } from '../binding.ts'
import { chinese, dirtyRows, english, paragraph, parquet } from '../calibration-sources.ts'
import { readFixture, worst } from '../fixture.ts'
import { NOVELS } from '../helpers.ts'
import { type Chromium, openChromium, skipped } from './chromium.ts'

const MODEL = '/models/novels-4m'
const CPU = { device: 'cpu', compute: 'f32' } as const
const GPU = { device: 'gpu' } as const

/** What quantizes to the same bytes everywhere. */
const RTN = { method: 'rtn', scheme: 'w4g128' } as const

/**
 * Largest difference of a logit between two orders of summing the same f32 products: four blocks
 * and a head of at most 768 terms on logits of up to 20; the tests below print what they see.
 */
const BOUND = 1e-4

const novels = await readFixture('novels-4m-reference')
const prompts = [0, 1, 2].map((i) => ({
  tokens: [...novels.tokens(`prompt_${i}.tokens`)],
  greedy: [...novels.tokens(`prompt_${i}.greedy`)],
  logits: novels.floats(`prompt_${i}.logits`),
  count: 64,
}))

let browser: Chromium | undefined
test.before(async () => {
  browser = await openChromium()
})
test.after.always(() => browser?.close())

test.serial('chromium: the worker has SIMD and WebGPU', async (t) => {
  if (!browser) return skipped(t)
  t.like(await browser.act('info', MODEL, CPU), { isa: 'simd128', device: 'cpu', gpuLayers: 0 })
  const gpu = await browser.act('info', MODEL, GPU)
  t.like(gpu, { device: 'gpu', gpuLayers: 4, gpu: { backend: 'webgpu' } })
})

test.serial('chromium: greedy tokens in f32 are those of transformers', async (t) => {
  if (!browser) return skipped(t)
  const got = await browser.act('greedy', MODEL, CPU, prompts)
  t.deepEqual(
    got,
    prompts.map((prompt) => prompt.greedy),
  )
})

test.serial('chromium: logits on WebGPU are within the bound of the reference', async (t) => {
  if (!browser) return skipped(t)
  for (const { tokens, logits } of prompts) {
    const difference = worst(await floats(browser, MODEL, GPU, tokens), logits)
    t.log(`worst difference ${difference}`)
    t.true(difference <= BOUND)
  }
})

test.serial('chromium: RTN gives the bytes and the tokens of the native module', async (t) => {
  if (!browser) return skipped(t)
  const api = createApi(await openBinding('node'), nodeHost)
  const out = memoryStore()
  await api.quantize(NOVELS, { ...RTN, out })
  t.deepEqual(weights(await browser.act('quantize', MODEL, RTN, 'rtn')), weights(digests(out)))
  t.deepEqual(await browser.act('greedy', 'rtn', CPU, prompts), await nativeGreedy(api, out))
})

test.serial('chromium: quantized logits on WebGPU are within the bound of the CPU', async (t) => {
  if (!browser) return skipped(t)
  await browser.act('quantize', MODEL, RTN, 'rtn')
  for (const { tokens } of prompts) {
    const cpu = await floats(browser, 'rtn', CPU, tokens)
    for (const gpuLayers of [4, 2]) {
      const gpu = await floats(browser, 'rtn', { ...GPU, gpuLayers }, tokens)
      t.log(`${gpuLayers} layers: worst difference ${worst(gpu, cpu)}`)
      t.true(worst(gpu, cpu) <= BOUND)
    }
  }
})

test.serial('chromium: text streams in pieces that join to whole characters', async (t) => {
  if (!browser) return skipped(t)
  const generation = { maxTokens: 24, temperature: 0.8, topK: 40, seed: 7 }
  const ask = ['generate', MODEL, CPU, 'The ship', generation] as const
  const [first, second] = [await browser.act(...ask), await browser.act(...ask)]
  if (!Array.isArray(first)) return t.fail('no pieces came')
  t.true(first.length > 5)
  t.deepEqual(first, second)
  t.false(first.join('').includes('\ufffd'))
})

test.serial('chromium: a calibration set has the bytes of the one that Node makes', async (t) => {
  if (!browser) return skipped(t)
  const texts = Array.from({ length: 24 }, (_, i) => paragraph(i % 2 ? english : chinese, i))
  const files = { 'a.jsonl': new TextEncoder().encode(dirtyRows(24)), 'a.parquet': parquet(texts) }
  const options = { samples: 4, length: 64, mix: { en: 1, zh: 1 } }
  const api = createApi(await openBinding('node'), nodeHost)
  for (const [name, bytes] of Object.entries(files)) {
    const out = memoryStore()
    await api.calibrate({ name, bytes }, { ...options, model: NOVELS, out })
    const made = await browser.act('calibrate', name, [...bytes], { ...options, model: MODEL })
    const own = [...out.files].map(([file, body]) => [file, new TextDecoder().decode(body)])
    t.deepEqual(made, Object.fromEntries(own))
  }
})

test.serial('chromium: errors keep their codes across the worker', async (t) => {
  if (!browser) return skipped(t)
  t.like(await browser.act('failure', '/models/absent', {}), { code: 'not-found' })
  t.like(await browser.act('failure', MODEL, { isa: 'avx512' }), { code: 'no-device' })
})

test.serial('chromium: a terminated worker fails its calls', async (t) => {
  if (!browser) return skipped(t)
  t.deepEqual(await browser.act('terminated'), ['internal', 'internal'])
})

/** Logits that the page computes. */
async function floats(page: Chromium, ...args: unknown[]): Promise<Float32Array> {
  const got = await page.act('logits', ...args)
  return Float32Array.from(Array.isArray(got) ? got : [])
}

/** SHA-256 of every file of a store. */
function digests(store: MemoryStore): Record<string, string> {
  const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
  return Object.fromEntries([...store.files].map(([name, bytes]) => [name, digest(bytes)]))
}

/** Without what tells of times and hosts. */
function weights(all: unknown): Record<string, unknown> {
  const entries = Object.entries(typeof all === 'object' && all !== null ? all : {})
  return Object.fromEntries(entries.filter(([name]) => /\.safetensors$|^config/.test(name)))
}

async function nativeGreedy(api: Lowbit, model: MemoryStore): Promise<number[][]> {
  const loaded = await api.load(model, CPU)
  const { binding, handle } = loadedOf(loaded)
  const all: number[][] = []
  for (const { tokens, count } of prompts) {
    const session = await binding.sessionOpen(handle, '{"temperature":0}')
    await binding.sessionPush(session, Uint32Array.from(tokens))
    const ids: number[] = []
    while (ids.length < count) {
      const step: { token?: number } = JSON.parse(await binding.sessionNext(session))
      if (step.token !== undefined) ids.push(step.token)
    }
    await binding.close(session)
    all.push(ids)
  }
  await loaded.dispose()
  return all
}
