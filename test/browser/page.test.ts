import test from 'ava'
import { referencePrompts } from '../reference.ts'
import { type Chromium, openChromium, skipped } from './chromium.ts'

const MODEL = '/models/novels-4m'

let browser: Chromium | undefined
test.before(async () => {
  browser = await openChromium()
})
test.after.always(() => browser?.close())

test.serial('chromium: greedy tokens in f32 are those of transformers', async (t) => {
  if (!browser) return skipped(t)
  const prompts = await referencePrompts()
  const asked = prompts.map(({ tokens }) => ({ tokens, count: 64 }))
  const got = await browser.act('greedy', MODEL, { device: 'cpu', compute: 'f32' }, asked)
  t.deepEqual(
    got,
    prompts.map((prompt) => prompt.greedy),
  )
})

test.serial('chromium: the worker has SIMD and WebGPU', async (t) => {
  if (!browser) return skipped(t)
  const cpu = await browser.act('info', MODEL, { device: 'cpu' })
  t.like(cpu, { isa: 'simd128', device: 'cpu', gpuLayers: 0 })
  const gpu = await browser.act('info', MODEL, { device: 'gpu' })
  t.like(gpu, { device: 'gpu', gpuLayers: 4, gpu: { backend: 'webgpu' } })
})

test.serial('chromium: logits on WebGPU are within the bound of the reference', async (t) => {
  if (!browser) return skipped(t)
  for (const { tokens, logits } of await referencePrompts()) {
    const got = await browser.act('logits', MODEL, { device: 'gpu' }, tokens)
    t.true(worst(got, logits) <= 1e-3, `worst difference ${worst(got, logits)}`)
  }
})

test.serial('chromium: text streams in pieces that join to whole characters', async (t) => {
  if (!browser) return skipped(t)
  const generation = { maxTokens: 24, temperature: 0.8, topK: 40, seed: 7 }
  const ask = ['generate', MODEL, { device: 'cpu' }, 'The ship', generation] as const
  const [first, second] = [await browser.act(...ask), await browser.act(...ask)]
  if (!Array.isArray(first)) return t.fail('no pieces came')
  t.true(first.length > 5)
  t.deepEqual(first, second)
  t.false(first.join('').includes('\ufffd'))
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

/** Worst absolute difference. */
function worst(got: unknown, want: Float32Array): number {
  if (!Array.isArray(got) || got.length !== want.length) return Infinity
  return want.reduce((most, value, i) => Math.max(most, Math.abs(value - Number(got[i]))), 0)
}
