import test from 'ava'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LowbitError } from '../ts/error.ts'
import type { Inspection } from '../ts/inspect.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { fsStore } from '../ts/store/fs.ts'
import { openApi } from './binding.ts'
import { lowbit } from './command-line.ts'
import { counted, NOVELS, ROOT, safetensors, tempFolder } from './helpers.ts'
import { REPO, serveHub } from './hub-site.ts'

const api = await openApi()
const QWEN = join(ROOT, 'models/tiny-qwen3')

/** What each engine does, and why. */
function engines({ engines: list }: Pick<Inspection, 'engines'>): Record<string, string> {
  return Object.fromEntries(
    list.map(({ engine, loads, note = '' }) => [engine, `${loads} ${note}`]),
  )
}

test('inspect: an original, its sizes, and who loads it', async (t) => {
  const found = await api.inspect(NOVELS)
  t.like(found, { format: 'safetensors', architecture: 'Qwen3ForCausalLM', parameters: 4_197_120 })
  t.deepEqual(found.sizes, {
    layers: 4,
    hidden: 256,
    heads: 4,
    keyValueHeads: 2,
    experts: null,
    vocabulary: 4096,
    context: 1024,
  })
  t.deepEqual(found.kinds, [{ name: 'BF16', tensors: 46, parameters: 4_197_120, bytes: 8_394_240 }])
  const all = engines(found)
  t.regex(all['vLLM'] ?? '', /^yes if it knows/)
  t.regex(all['llama.cpp'] ?? '', /^partly after its converter/)
  t.is(all['lowbit CPU'], 'yes ')
  t.is(all['lowbit GPU'], 'yes ')
})

test('inspect: what the core cannot run, it says why', async (t) => {
  const gemma = engines(await api.inspect(join(ROOT, 'models/tiny-gemma2')))
  t.is(gemma['lowbit CPU'], 'yes ')
  t.regex(gemma['lowbit GPU'] ?? '', /^no .+ on the GPU/)
  const files = [
    ['config.json', new TextEncoder().encode('{"model_type":"unheard-of"}')],
    ['model.safetensors', safetensors({ 'a.weight': counted([2, 2]) })],
  ] as const
  const unheard = engines(await api.inspect(memoryStore(files)))
  for (const engine of ['lowbit CPU', 'lowbit GPU', 'lowbit browser']) {
    t.regex(unheard[engine] ?? '', /^no .*unheard-of/, engine)
  }
})

/** Bits per weight of a kind, scales included. */
function bitsOf({ kinds }: Inspection, name: string): number {
  const kind = kinds.find((one) => one.name === name)
  return kind ? (8 * kind.bytes) / kind.parameters : 0
}

test('inspect: what was quantized here, in every format', async (t) => {
  const expected: readonly (readonly [string, string, RegExp, RegExp, RegExp])[] = [
    ['compressed-tensors', 'w4g32', /^yes/, /^partly after its converter/, /^yes/],
    ['compressed-tensors', 'w3g32', /^partly/, /^no/, /^yes/],
    ['gptq', 'w4g32', /^yes/, /^partly/, /^yes/],
    ['awq', 'w4g32-asym', /^yes/, /^no use GGUF/, /^yes/],
    ['bitsandbytes', 'nf4', /^partly/, /^no/, /^no there is no shader for nf4/],
    ['hqq', 'w4g32-float', /^no/, /^no/, /^no there is no shader/],
  ]
  for (const [format, scheme, vllm, llama, gpu] of expected) {
    const out = memoryStore()
    const method = format === 'hqq' ? 'hqq' : 'rtn'
    await api.quantize(QWEN, { out, method, format, scheme })
    const found = await api.inspect(out)
    t.deepEqual(Object.keys(found.schemes), [scheme], format)
    const all = engines(found)
    t.regex(all['vLLM'] ?? '', vllm, `${format} ${scheme}`)
    t.regex(all['llama.cpp'] ?? '', llama, `${format} ${scheme}`)
    t.regex(all['lowbit GPU'] ?? '', gpu, `${format} ${scheme}`)
    t.is(all['lowbit CPU'], 'yes ')
    const bits = bitsOf(found, scheme)
    t.true(bits > Number(/\d/.exec(scheme)?.[0]) && bits < 6, `${format} ${scheme}: ${bits} bits`)
  }
})

test('inspect: linears that servers join and that differ, as plans and conversions say too', async (t) => {
  const out = memoryStore()
  const ignore = ['lm_head', 're:.*layers.1.self_attn.k_proj']
  const report = await api.quantize(QWEN, { out, method: 'rtn', scheme: 'w4g32', ignore })
  const found = await api.inspect(out)
  const format = 'compressed-tensors'
  const converted = await api.convert(out, { out: memoryStore(), format })
  const differ = /^no it joins linears .*1.self_attn.q_proj is w4g32, .*k_proj is as it is$/
  for (const output of [report, found, converted]) {
    t.regex(engines(output)['vLLM'] ?? '', differ)
    t.regex(engines(output)['transformers'] ?? '', /^yes/)
  }
})

test('inspect: a format of another tool', async (t) => {
  const config = { model_type: 'qwen3', quantization_config: { quant_method: 'quark' } }
  const found = await api.inspect(
    memoryStore([
      ['config.json', new TextEncoder().encode(JSON.stringify(config))],
      ['model.safetensors', safetensors({ 'a.weight': counted([2, 2]) })],
    ]),
  )
  t.regex(found.problem ?? '', /quark/)
  const all = engines(found)
  t.is(all['vLLM'], 'unknown nothing is known here of the format quark')
  t.regex(all['lowbit CPU'] ?? '', /^no .*quark/)
})

test('inspect: by address and on the hub, headers come and nothing else', async (t) => {
  const store = fsStore(NOVELS)
  const names = await store.list()
  const files = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await store.read(name)] as const)),
  )
  const hub = await serveHub(t, { files })
  const local = await api.inspect(NOVELS)
  const address = `${hub.endpoint}/${REPO}/resolve/main/`
  for (const place of [address, `${address}model.safetensors`]) {
    const before = hub.sent
    const { place: _, ...found } = await api.inspect(place)
    t.deepEqual(found, Object.fromEntries(Object.entries(local).filter(([key]) => key !== 'place')))
    t.true(hub.sent - before < 20_000, `${hub.sent - before} bytes of ${local.bytes}`)
  }
})

test('inspect: by address, the shards that an index names', async (t) => {
  const [a, b] = [counted([8, 4]), counted([4, 4], 1)]
  const map = { a: 'part/one.safetensors', b: 'two.safetensors' }
  const index = { metadata: { total_size: 96 }, weight_map: map }
  const files = {
    'config.json': new TextEncoder().encode('{"model_type":"x"}'),
    'model.safetensors.index.json': new TextEncoder().encode(JSON.stringify(index)),
    'part/one.safetensors': safetensors({ a }),
    'two.safetensors': safetensors({ b }),
  }
  const hub = await serveHub(t, { files })
  const address = `${hub.endpoint}/${REPO}/resolve/main/`
  t.is(await codeOf(() => api.inspect(address)), 'path-escape')
  const flat = { ...map, a: 'one.safetensors' }
  const plain = await serveHub(t, {
    files: {
      ...files,
      'model.safetensors.index.json': new TextEncoder().encode(
        JSON.stringify({ ...index, weight_map: flat }),
      ),
      'one.safetensors': safetensors({ a }),
    },
  })
  const found = await api.inspect(`${plain.endpoint}/${REPO}/resolve/main/`)
  t.deepEqual(
    found.tensors.map(({ name, file }) => [name, file]),
    Object.entries(flat),
  )
})

test('inspect: the table, with tensors only when asked', async (t) => {
  const plain = await lowbit(['inspect', NOVELS])
  t.regex(plain.out, /^model +4 layers, hidden size 256, 4 heads, 2 key-value heads/m)
  t.regex(plain.out, /^BF16 +46 +4,197,120 +8\.39 MB +16\.000$/m)
  t.regex(plain.out, /^SGLang +yes +if it knows the architecture$/m)
  t.false(plain.out.includes('model.norm.weight'))
  t.regex(
    (await lowbit(['inspect', NOVELS, '--tensors'])).out,
    /^model\.norm\.weight +BF16 +\[256\]/m,
  )
  const file = join(await tempFolder(t), 'a.safetensors')
  await writeFile(file, await readFile(join(NOVELS, 'model.safetensors')))
  t.regex((await lowbit(['inspect', file])).out, /architecture +unknown: there is no config\.json/)
})

async function codeOf(run: () => Promise<unknown>): Promise<string> {
  try {
    await run()
    return 'ok'
  } catch (error) {
    return error instanceof LowbitError ? error.code : String(error)
  }
}
