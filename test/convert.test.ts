import test from 'ava'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LowbitError } from '../ts/error.ts'
import { type MemoryStore, memoryStore } from '../ts/store/memory.ts'
import { NAME, openApi } from './binding.ts'
import { readFixture, worst } from './fixture.ts'
import { gguf, Q8_0, qwenKeys, qwenTensors } from './gguf-writer.ts'
import { failsWith, NOVELS, type Planned, ROOT, safetensors, tempFolder } from './helpers.ts'

const api = await openApi()
const native = NAME === 'node'

/** A small model: the same on every binding in a moment. */
const TINY = join(ROOT, 'models/tiny-qwen3')

async function quantized(format: string, scheme: string, model = TINY): Promise<MemoryStore> {
  const out = memoryStore()
  await api.quantize(model, { out, method: 'rtn', scheme, format })
  return out
}

/** Every tensor by name; where it lies in the file is another matter. */
async function weights(store: MemoryStore): Promise<ReadonlyMap<string, Buffer>> {
  const file = Buffer.from(await store.read('model.safetensors'))
  const length = Number(file.readBigUInt64LE())
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(
    file.subarray(8, 8 + length).toString(),
  )
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__')
  const sorted = entries.toSorted(([a], [b]) => (a < b ? -1 : 1))
  const bytes = ([begin, end]: [number, number]): Buffer =>
    Buffer.from(file.subarray(8 + length + begin, 8 + length + end))
  return new Map(sorted.map(([name, tensor]) => [name, bytes(tensor.data_offsets)]))
}

test(`${NAME}: a chain of formats keeps every value and ends in the same bytes`, async (t) => {
  const first = await quantized('compressed-tensors', 'w4g32-asym')
  let at = first
  for (const format of ['awq', 'gptq-v2', 'compressed-tensors']) {
    const out = memoryStore()
    const report = await api.convert(at, { out, format, exact: true })
    t.like(report, { exact: 14, rounded: 0, merged: 0, format })
    t.true(report.layers.every(({ how, relativeError }) => how === 'exact' && relativeError === 0))
    at = out
  }
  t.deepEqual(await weights(at), await weights(first))
  t.deepEqual(await at.read('config.json'), await first.read('config.json'))
  t.regex(new TextDecoder().decode(await at.read('README.md')), /Converted from/)
})

test(`${NAME}: floats of any format are what its codes stand for`, async (t) => {
  const rows = [
    ['compressed-tensors', 'w3g32'],
    ['gptq', 'w8g32'],
    ['awq', 'w4g32-asym'],
    ['hqq', 'w4g32-float'],
    ['bitsandbytes', 'nf4'],
    ['fp8', 'fp8a8b64x64'],
  ] as const
  for (const [format, scheme] of rows) {
    const source = memoryStore()
    const method = scheme.endsWith('float') ? 'hqq' : 'rtn'
    await api.quantize(TINY, { out: source, method, scheme, format })
    const out = memoryStore()
    const report = await api.convert(source, { out, format: 'float', dtype: 'f32' })
    t.is(report.rounded, 0, format)
    const tokens = Uint32Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % 97)
    const logits = await Promise.all(
      [source, out].map(async (store) => {
        const model = await api.load(store, { compute: 'f32', device: 'cpu' })
        const found = await model.logits(tokens)
        await model.dispose()
        return found
      }),
    )
    const [a = new Float32Array(0), b = new Float32Array(1)] = logits
    // Inputs of fp8 are rounded when it runs; the floats know nothing of that.
    if (format !== 'fp8') t.true(worst(a, b) < 1e-4, `${format}: ${worst(a, b)}`)
  }
})

test(`${NAME}: what changes values is asked for, and said`, async (t) => {
  const source = await quantized('compressed-tensors', 'w4g32-asym')
  const refused = await failsWith(t, 'scheme', () =>
    api.convert(source, { out: memoryStore(), format: 'gptq' }),
  )
  t.regex(refused.message, /q_proj.*--scheme/s)
  const options = { format: 'gptq', scheme: 'w4g32' } as const
  const plan = await api.convert(source, { ...options, out: memoryStore(), dryRun: true })
  t.true(plan.dryRun)
  t.deepEqual([...new Set(plan.plan.layers.map(({ how }) => how))], ['if it fits'])
  const report = await api.convert(source, { ...options, out: memoryStore() })
  t.like(report, { exact: 0, rounded: 14 })
  t.regex(report.layers[0]?.why ?? '', /zero point/)
  await failsWith(t, 'scheme', () =>
    api.convert(source, { ...options, out: memoryStore(), exact: true }),
  )
  const unknown = await failsWith(t, 'option', () =>
    api.convert(source, { out: memoryStore(), format: 'gtpq' }),
  )
  t.regex(unknown.message, /did you mean "gptq"/)
  const plain = await failsWith(t, 'unsupported', () =>
    api.convert(TINY, { out: memoryStore(), format: 'awq' }),
  )
  t.regex(plain.message, /lowbit quantize/)
})

/** The adapters of the fixture, as PEFT saves and merges them. */
async function adapter(
  name: string,
): Promise<{ store: MemoryStore; merged: ReadonlyMap<string, Float32Array> }> {
  const fixture = await readFixture('vectors/lora')
  const saved: Record<string, Planned> = {}
  const merged = new Map<string, Float32Array>()
  for (const tensor of fixture.names) {
    const [own, kind, rest = ''] = tensor.split(/\/(saved|merged)\//)
    if (own !== name) continue
    const values = fixture.floats(tensor)
    if (kind === 'merged') merged.set(rest, values)
    else
      saved[rest] = {
        dtype: 'F32',
        shape: fixture.shape(tensor),
        data: new Uint8Array(values.buffer),
      }
  }
  const config = new TextEncoder().encode(fixture.metadata[name] ?? '')
  const store = memoryStore([
    ['adapter_config.json', config],
    ['adapter_model.safetensors', safetensors(saved)],
  ])
  return { store, merged }
}

for (const name of ['plain', 'rslora', 'patterns', 'saved', 'embedding']) {
  test(`${NAME}: adapter ${name} merges to what PEFT merges it to`, async (t) => {
    const { store, merged } = await adapter(name)
    const out = memoryStore()
    const report = await api.convert(TINY, { out, format: 'float', dtype: 'f32', lora: store })
    t.is(report.merged, merged.size)
    t.true(merged.size > 0)
    const written = await weights(out)
    for (const [tensor, wanted] of merged) {
      const bytes = new Uint8Array(written.get(tensor) ?? [])
      const found = new Float32Array(bytes.buffer)
      const size = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
      t.true(worst(found, wanted) <= 1e-6 * size, `${tensor}: ${worst(found, wanted)}`)
    }
  })
}

test(`${NAME}: adapters that are none are refused`, async (t) => {
  const { store } = await adapter('plain')
  const config = JSON.parse(new TextDecoder().decode(await store.read('adapter_config.json')))
  const tensors = await store.read('adapter_model.safetensors')
  const merge = (files: readonly (readonly [string, Uint8Array])[]): Promise<unknown> =>
    api.convert(TINY, { out: memoryStore(), format: 'float', lora: memoryStore(files) })
  const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))
  const dora = text({ ...config, use_dora: true })
  await failsWith(t, 'unsupported', () =>
    merge([
      ['adapter_config.json', dora],
      ['adapter_model.safetensors', tensors],
    ]),
  )
  await failsWith(t, 'not-found', () => merge([['adapter_model.safetensors', tensors]]))
  await failsWith(t, 'not-a-model', () =>
    merge([
      ['adapter_config.json', text(config)],
      ['adapter_model.bin', tensors],
    ]),
  )
})

test(`${NAME}: an aborted conversion leaves nothing under the name`, async (t) => {
  const source = await quantized('compressed-tensors', 'w4g32')
  const controller = new AbortController()
  const out = memoryStore()
  const call = api.convert(source, {
    out,
    format: 'gptq',
    signal: controller.signal,
    onProgress: ({ stage }) => {
      if (stage === 'convert') controller.abort()
    },
  })
  const error = await t.throwsAsync(call, { instanceOf: LowbitError })
  t.is(error?.code, 'aborted')
  t.false((await out.list()).includes('config.json'))
})

if (native) {
  test('novels-4m: a GGUF file becomes safetensors with every value of its blocks', async (t) => {
    const file = join(await tempFolder(t), 'novels.gguf')
    await writeFile(file, gguf(await qwenKeys(NOVELS), await qwenTensors(NOVELS, Q8_0)))
    const out = memoryStore()
    const report = await api.convert(file, { out, format: 'compressed-tensors' })
    const linears = report.layers.filter(({ scheme }) => scheme === 'w8g32')
    t.is(linears.length, 28)
    t.true(linears.every(({ from, how }) => from === 'Q8_0' && how === 'exact'))
    t.true((await out.list()).includes('tokenizer.json'))
    const text = (await readFile(join(ROOT, 'data/eval.txt'), 'utf8')).slice(0, 8000)
    const figures = await api.evaluate(out, { reference: file, text, device: 'cpu' })
    t.true((figures.meanKld ?? 1) < 1e-4, `${figures.meanKld}`)
  })

  test('novels-4m: through HQQ, GPTQ and floats it says the same', async (t) => {
    const source = await quantized('gptq', 'w4g128', NOVELS)
    const out = memoryStore()
    await api.convert(source, { out, format: 'hqq' })
    const text = (await readFile(join(ROOT, 'data/eval.txt'), 'utf8')).slice(0, 8000)
    const figures = await api.evaluate(out, { reference: source, text, device: 'cpu' })
    t.true((figures.meanKld ?? 1) < 1e-9, `${figures.meanKld}`)
  })
}
