import test from 'ava'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { nodeHost } from '../ts/host.node.ts'
import type { CoreOptions } from '../ts/recipe/core.ts'
import { groupScheme, presetScheme } from '../ts/recipe/foreign-schemes.ts'
import { readRecipe } from '../ts/recipe/read.ts'
import { resolveOptions } from '../ts/recipe/resolve.ts'
import { failsWith, presets, ROOT } from './helpers.ts'

const PARTS = ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj']
const MLP = ['mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']
const NAMES = [0, 1].flatMap((i) => [...PARTS, ...MLP].map((part) => `model.layers.${i}.${part}`))

async function translated(
  recipe: string,
): Promise<{ options: CoreOptions; notes: readonly string[] }> {
  const compiled = await readRecipe(nodeHost, recipe, await presets())
  const options = await resolveOptions({ out: 'x' }, compiled, async () => NAMES)
  return { options, notes: compiled.notes }
}

function fixture(name: string): string {
  return join(ROOT, 'test/fixtures/recipes', name)
}

/** A recipe of one modifier, before a rounder where it does not round itself. */
function yaml(name: string, settings: string, rounds = false): string {
  const last = rounds ? '' : '    QuantizationModifier: { scheme: W4A16, ignore: [lm_head] }\n'
  return `DEFAULT_stage:\n  DEFAULT_modifiers:\n    ${name}: ${settings}\n${last}`
}

test('llm-compressor: SmoothQuant and GPTQ as it saves them', async (t) => {
  const { options, notes } = await translated(fixture('smoothquant-gptq.yaml'))
  t.deepEqual(options, {
    format: 'auto',
    transforms: [{ kind: 'smoothQuant', strength: 0.8 }],
    method: 'gptq',
    scheme: 'w8a8',
    ignore: [],
    observer: 'minmax',
    block: 128,
    damp: 0.01,
    actOrder: 'static',
    refine: 0,
  })
  t.deepEqual(notes, [])
})

test('llm-compressor: AWQ with config_groups as it saves it, with a tag of its language', async (t) => {
  const { options, notes } = await translated(fixture('awq-config-groups.yaml'))
  t.like(options, { method: 'rtn', scheme: 'w4g128-asym', observer: 'minmax' })
  t.deepEqual(options.transforms, [{ kind: 'awq', duo: true, grid: 20, clip: false }])
  t.regex(notes.join(), /duo_scaling "both"/)
})

test('llm-compressor: stages by hand, mappings of some places, config_groups', async (t) => {
  const { options } = await translated(fixture('stages.yaml'))
  t.like(options, { method: 'gptq', scheme: 'w8a8' })
  const ignore = ['re:.*(gate_proj|up_proj)$']
  t.deepEqual(options.transforms, [{ kind: 'smoothQuant', strength: 0.8, ignore }])
})

test('llm-compressor: pruning with quantization', async (t) => {
  const { options } = await translated(fixture('sparsegpt-2of4.yaml'))
  t.deepEqual(options.prune, { method: 'sparsegpt', sparsity: 0.5, pattern: '2:4' })
  t.like(options, { method: 'gptq', scheme: 'w4g128' })
})

test('llm-compressor: rotations', async (t) => {
  const { options } = await translated(fixture('spinquant.yaml'))
  t.deepEqual(options.transforms, [{ kind: 'rotate', r1: true, r2: true, random: false }])
  t.like(options, { method: 'rtn', scheme: 'w4g128' })
})

test('llm-compressor: patterns that fit nothing here are let pass', async (t) => {
  const { options } = await translated(fixture('fp8-dynamic.yaml'))
  t.like(options, { method: 'rtn', scheme: 'fp8a8', ignore: [] })
})

test('llm-compressor: of two groups the more specific counts, wherever it stands', async (t) => {
  const { options } = await translated(fixture('two-groups.yaml'))
  t.like(options, { scheme: 'w4g128', observer: 'mse', ignore: [] })
  t.deepEqual(options.layers, [{ pattern: 're:.*down_proj', scheme: 'w8a8' }])
})

test('llm-compressor: what no target names stays as it is', async (t) => {
  const { options, notes } = await translated(fixture('attention-only.yaml'))
  t.like(options, { scheme: 'w8g128', actOrder: 'group', damp: 0.05 })
  const targeted = /self_attn\.[qkv]_proj$/
  t.deepEqual(
    options.ignore,
    NAMES.filter((name) => !targeted.test(name)),
  )
  t.deepEqual(notes, ['lm_head stays as it is stored'])
})

test('llm-compressor: look-around in patterns becomes names', async (t) => {
  const { options } = await translated(
    yaml('GPTQModifier', "{ scheme: W4A16, ignore: ['re:(?!.*down_proj).*'] }", true),
  )
  t.deepEqual(
    options.ignore,
    NAMES.filter((name) => !name.endsWith('down_proj')),
  )
})

const CACHES: readonly (readonly [scheme: string, name: string, notes: number])[] = [
  ['{ num_bits: 8, type: float, strategy: tensor, dynamic: false, symmetric: true }', 'fp8', 1],
  ['{ type: float, strategy: attn_head, observer: static_minmax, zp_dtype: null }', 'fp8-head', 0],
  ['{ num_bits: 8 }', 'int8', 1],
]

for (const [scheme, name, notes] of CACHES) {
  test(`llm-compressor: a KV cache as ${name}`, async (t) => {
    const settings = `{ scheme: W4A16, ignore: [lm_head], kv_cache_scheme: ${scheme} }`
    const found = await translated(yaml('QuantizationModifier', settings, true))
    t.is(found.options.kvCache, name)
    t.is(found.notes.length, notes, 'a moving average is told')
  })
}

const SCHEMES: readonly (readonly [weights: string, scheme: string])[] = [
  ['{ num_bits: 4, strategy: group, group_size: 32, symmetric: false }', 'w4g32-asym'],
  ['{ num_bits: 8, strategy: channel }', 'w8'],
  ['{ num_bits: 8, type: float, strategy: tensor }', 'fp8t'],
  ['{ num_bits: 8, type: float, strategy: block, block_structure: [128, 128] }', 'fp8b128x128'],
  [
    '{ num_bits: 4, type: float, strategy: tensor_group, group_size: 16, scale_dtype: torch.float8_e4m3fn }',
    'nvfp4',
  ],
  [
    '{ num_bits: 4, type: float, strategy: group, group_size: 32, scale_dtype: torch.uint8 }',
    'mxfp4',
  ],
]

for (const [weights, scheme] of SCHEMES) {
  test(`llm-compressor: weights as ${scheme}`, async (t) => {
    const group = `{ config_groups: { group_0: { targets: [Linear], weights: ${weights} } } }`
    t.is((await translated(yaml('QuantizationModifier', group, true))).options.scheme, scheme)
  })
}

test('llm-compressor: presets are what compressed-tensors 0.19 says they are', async (t) => {
  const text = await readFile(fixture('preset-schemes.json'), 'utf8')
  const described: Record<string, Record<string, unknown>> = JSON.parse(text)
  const known = await presets()
  t.deepEqual(
    [...known.keys()].filter((name) => !(name in described)),
    [],
  )
  for (const [name, group] of Object.entries(described)) {
    const own = presetScheme(known, name)
    const found = groupScheme(group)
    if (own !== undefined) t.is(found, own, name)
    // Widths that nobody writes here are the core's to refuse; all else is refused with a reason.
    else if (typeof found === 'string') t.regex(found, /^w[567]/, name)
    else t.truthy(found.what, name)
  }
})

const REFUSED: readonly (readonly [recipe: string, message: RegExp])[] = [
  [yaml('AutoRoundModifier', '{}'), /AutoRoundModifier is not done here: it learns.*recipe:3:5/],
  [yaml('GPTQModifer', '{}'), /no modifier "GPTQModifer".*did you mean "GPTQModifier"/],
  [
    yaml('GPTQModifier', '{ scheme: W4A16, dampning_frac: 1 }', true),
    /no key "dampning_frac".*:3:36.*dampening_frac/,
  ],
  [yaml('GPTQModifier', '{ scheme: W5A8 }', true), /scheme "W5A8" is not written here.*W4A16/],
  [yaml('GPTQModifier', '{}', true), /neither scheme nor config_groups/],
  [
    yaml('GPTQModifier', '{ scheme: W4A16, kv_cache_scheme: { num_bits: 4 } }', true),
    /kv_cache_scheme: num_bits 4 is not done here.*use 8/,
  ],
  [
    yaml('GPTQModifier', '{ scheme: W4A16, kv_cache_scheme: { symmetric: false } }', true),
    /kv_cache_scheme: symmetric false is not done here/,
  ],
  [
    yaml('GPTQModifier', '{ scheme: W4A16, kv_cache_scheme: { bits: 8 } }', true),
    /kv_cache_scheme has no key "bits".*num_bits/,
  ],
  [yaml('GPTQModifier', '{ scheme: W4A16, targets: Conv2d }', true), /modules of class "Conv2d"/],
  [
    yaml('QuantizationModifier', '{ scheme: W4A16, weight_observer: percentile }', true),
    /observer "percentile" is not done/,
  ],
  [
    yaml('SmoothQuantModifier', '{ algorithm: log_equalization }'),
    /algorithm "log_equalization" is not done here/,
  ],
  [
    yaml('SmoothQuantModifier', "{ mappings: [[['re:.*fc1'], 're:.*norm']] }"),
    /these mappings are not known here/,
  ],
  [
    yaml('SparseGPTModifier', '{ sparsity: 0.5, sparsity_profile: owl, owl_m: 5 }'),
    /sparsity_profile "owl"/,
  ],
  [
    yaml('SparseGPTModifier', "{ sparsity: 0.5, targets: ['re:.*mlp.*'] }"),
    /only "re:\.\*mlp\.\*" would be pruned/,
  ],
  [yaml('SpinQuantModifier', '{ rotations: [R1, R4] }'), /R4 stays in the model/],
  [
    yaml('SpinQuantModifier', '{ transform_type: random-matrix }'),
    /"random-matrix" is not done here/,
  ],
  [yaml('AWQModifier', '{}', true), /No modifier rounds/],
  [
    yaml('GPTQModifier', '{ scheme: W8A8 }'),
    /Two modifiers quantize "model\.layers\.0\.self_attn\.q_proj"/,
  ],
  ['quant_stage:\n  quant:\n    GPTQModifier: {}\n', /"quant" is no group.*:2:3.*_modifiers/],
]

for (const [recipe, message] of REFUSED) {
  test(`llm-compressor: refuses ${String(message).slice(1, 50)}`, async (t) => {
    const error = await failsWith(t, 'recipe', () => translated(recipe))
    t.regex(error.message, message)
  })
}
