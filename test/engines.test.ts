import test from 'ava'
import { enginesFor, type Output } from '../ts/quantize/engines.ts'
import { forecastSeconds } from '../ts/quantize/forecast.ts'
import { schemeParts } from '../ts/quantize/scheme.ts'

/** What each engine does, by name. */
function verdicts(output: Partial<Output>): Record<string, string> {
  const whole = { format: 'compressed-tensors', layers: [], ...output }
  return Object.fromEntries(enginesFor(whole).map(({ engine, loads }) => [engine, loads]))
}

function layers(...schemes: readonly string[]): Output['layers'] {
  const parts = ['self_attn.q_proj', 'self_attn.k_proj', 'mlp.down_proj']
  return schemes.map((scheme, i) => ({ name: `model.layers.0.${parts[i] ?? ''}`, scheme }))
}

test('engines: what loads everywhere does', (t) => {
  const found = verdicts({ layers: layers('w4g128', 'w4g128') })
  t.like(found, { transformers: 'yes', vLLM: 'yes', SGLang: 'yes', 'llama.cpp': 'partly' })
  t.is(found['lowbit browser'], 'yes')
})

test('engines: odd bits are only for some', (t) => {
  const found = verdicts({ layers: layers('w3g128') })
  t.like(found, { transformers: 'partly', vLLM: 'partly', SGLang: 'no', 'llama.cpp': 'no' })
})

test('engines: our GPU takes integers, our CPU everything', (t) => {
  for (const scheme of ['w8a8', 'fp8a8', 'nf4', 'w4g64-float']) {
    t.like(verdicts({ layers: layers(scheme) }), { 'lowbit GPU': 'no', 'lowbit CPU': 'yes' })
  }
  t.is(verdicts({ layers: layers('w4g128-asym') })['lowbit GPU'], 'yes')
})

test('engines: servers join linears, so that they must agree', (t) => {
  const torn = enginesFor({
    format: 'compressed-tensors',
    layers: layers('w4g128', 'w8'),
    torn: 'q_proj is w4g128, k_proj is w8',
  })
  const server = torn.find(({ engine }) => engine === 'vLLM')
  t.is(server?.loads, 'no')
  t.regex(server?.note ?? '', /q_proj is w4g128, k_proj is w8/)
  t.is(verdicts({ layers: layers('w4g128'), torn: null })['vLLM'], 'yes')
  // Linears that nobody joins may differ.
  t.is(verdicts({ layers: layers('w4g128', 'w4g128', 'w8') })['vLLM'], 'yes')
  t.is(verdicts({ layers: layers('w4g128', 'w4g128', 'w8') })['llama.cpp'], 'no')
})

test('engines: an order of groups is read by few', (t) => {
  const config = (actorder: unknown) => {
    const weights = { num_bits: 4, actorder }
    return { quantization_config: { config_groups: { group_0: { weights } } } }
  }
  for (const order of ['group', 'dynamic', true]) {
    const found = { layers: layers('w4g128'), config: JSON.stringify(config(order)) }
    t.like(verdicts(found), { transformers: 'no', vLLM: 'partly', 'lowbit CPU': 'yes' })
  }
  for (const order of ['static', null]) {
    t.is(verdicts({ layers: layers('w4g128'), config: config(order) })['transformers'], 'yes')
  }
})

test('engines: transformers reads no exceptions in GPTQ', (t) => {
  const mixed = layers('w4g128', 'w4g128', 'w8g128')
  t.like(verdicts({ format: 'gptq', layers: mixed }), { transformers: 'no', vLLM: 'yes' })
  t.is(verdicts({ format: 'gptq', layers: layers('w4g128') })['transformers'], 'yes')
})

test('engines: formats of one tool', (t) => {
  t.like(verdicts({ format: 'hqq', layers: layers('w4g64-float') }), {
    vLLM: 'no',
    transformers: 'partly',
  })
  t.like(verdicts({ format: 'bitsandbytes', layers: layers('nf4') }), {
    vLLM: 'partly',
    'llama.cpp': 'no',
  })
  t.is(verdicts({ format: 'gguf', layers: layers('w4g128') })['llama.cpp'], 'yes')
})

test('forecast: more threads take less time; what was not measured is not forecast', (t) => {
  const one = forecastSeconds(46_000, 'avx512', 1) ?? 0
  t.true(one > 0)
  t.is(forecastSeconds(46_000, 'avx512', 4), one / 4)
  t.is(forecastSeconds(46_000, 'unheard-of', 1), undefined)
})

test('schemes: their parts', (t) => {
  t.like(schemeParts('w4a8g128-asym'), {
    element: 'w',
    bits: 4,
    group: 128,
    inputs: true,
    zero: 'int',
  })
  t.like(schemeParts('fp8a8b128x64'), { element: 'fp8', bits: 8, block: [128, 64], inputs: true })
  t.like(schemeParts('nvfp4a4'), { element: 'nvfp4', group: 16, inputs: true })
  t.like(schemeParts('w8'), { bits: 8, group: undefined, inputs: false, zero: 'none' })
  t.like(schemeParts('w4g-1'), { bits: 4, group: undefined })
  t.like(schemeParts('nf4-dq'), { element: 'nf4', bits: 4, group: 64 })
  t.like(schemeParts('w4g64-float'), { zero: 'float', group: 64 })
})
