import test from 'ava'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { nodeHost } from '../ts/host.node.ts'
import type { QuantizeOptions } from '../ts/options.ts'
import type { CoreOptions } from '../ts/recipe/core.ts'
import { METHODS, PRESETS } from '../ts/recipe/presets.ts'
import { readRecipe } from '../ts/recipe/read.ts'
import { resolveOptions } from '../ts/recipe/resolve.ts'
import { SCHEMA } from '../ts/recipe/schema.ts'
import { recipeText } from '../ts/recipe/write.ts'
import { failsWith, presets, ROOT, tempFolder } from './helpers.ts'

const NAMES = [0, 1].flatMap((i) =>
  ['self_attn.q_proj', 'self_attn.k_proj', 'mlp.up_proj', 'mlp.down_proj'].map(
    (part) => `model.layers.${i}.${part}`,
  ),
)

/** Options of the core for a recipe, as `quantize` would ask. */
async function optionsOf(
  recipe: string | object,
  more: Partial<QuantizeOptions> = {},
): Promise<CoreOptions> {
  const compiled = await readRecipe(nodeHost, recipe, await presets())
  return resolveOptions({ out: 'x', ...more }, compiled, async () => NAMES)
}

/** A recipe of one modifier or more, as text. */
function yaml(...lines: readonly string[]): string {
  return ['lowbit: 1', 'modifiers:', ...lines, ''].join('\n')
}

test('recipe: modifiers become the options of the core, in order', async (t) => {
  const text = yaml(
    '  - rotate: { random: true }',
    "  - smoothquant: { strength: 0.8, layers: { 're:.*q_proj': 0.5 }, ignore: [a] }",
    "  - sparsegpt: { sparsity: '2:4', ignore: b, damp: 0.05 }",
    '  - gptq:',
    '      scheme: w8a8',
    '      act-order: gar',
    '      true-sequential: true',
    "      layers: { 're:.*down_proj': w8g128, c: { method: rtn } }",
    'format: compressed-tensors',
    'seed: 7',
    'strict: true',
  )
  t.deepEqual(await optionsOf(text), {
    format: 'compressed-tensors',
    transforms: [
      { kind: 'rotate', random: true },
      { kind: 'smoothQuant', strength: 0.8, layers: [['re:.*q_proj', 0.5]], ignore: ['a'] },
    ],
    prune: { method: 'sparsegpt', sparsity: 0.5, pattern: '2:4', ignore: ['b'] },
    actOrder: 'gar',
    trueSequential: true,
    damp: 0.05,
    seed: 7,
    strict: true,
    method: 'gptq',
    scheme: 'w8a8',
    ignore: ['lm_head'],
    layers: [
      { pattern: 're:.*down_proj', scheme: 'w8g128' },
      { pattern: 'c', method: 'rtn' },
    ],
  })
})

test('recipe: JSON and objects are recipes too', async (t) => {
  const recipe = { lowbit: 1, modifiers: [{ rtn: { scheme: 'nf4' } }] }
  t.deepEqual(await optionsOf(`${JSON.stringify(recipe, undefined, 1)}\n`), await optionsOf(recipe))
  t.is((await optionsOf(recipe)).scheme, 'nf4')
})

test('recipe: options of the call win, exceptions come first, ignores are added', async (t) => {
  const text = yaml('  - gptq: { scheme: w8a8, ignore: [a], layers: { b: w8 } }', 'seed: 1')
  const options = await optionsOf(text, {
    scheme: 'w4g64',
    seed: 2,
    ignore: ['c'],
    layers: [['d', 'w3']],
  })
  t.like(options, { method: 'gptq', scheme: 'w4g64', seed: 2 })
  t.deepEqual(options.ignore, ['a', 'c'])
  t.deepEqual(options.layers, [
    { pattern: 'd', scheme: 'w3' },
    { pattern: 'b', scheme: 'w8' },
  ])
})

test('recipe: rounders share the linears by their targets; what is left stays as it is', async (t) => {
  const text = yaml(
    "  - gptq: { scheme: w8g128, targets: 're:.*down_proj' }",
    "  - rtn: { scheme: w4g128, targets: ['re:.*mlp.*', model.layers.0.self_attn.q_proj] }",
  )
  const options = await optionsOf(text)
  t.like(options, { method: 'rtn', scheme: 'w4g128' })
  t.deepEqual(options.layers, [{ pattern: 're:.*down_proj', scheme: 'w8g128', method: 'gptq' }])
  const left = ['model.layers.0.self_attn.k_proj', 'model.layers.1.self_attn.q_proj']
  t.deepEqual(options.ignore, [...left, 'model.layers.1.self_attn.k_proj'])
})

const WRONG: readonly (readonly [text: string, message: RegExp])[] = [
  [yaml('  - gtpq: {}'), /no modifier "gtpq" here, in recipe:3:5.*did you mean "gptq"/],
  [yaml('  - gptq: { act-ordr: gar }'), /no key "act-ordr".*:3:13.*did you mean "act-order"/],
  [yaml('  - gptq: {}', 'formt: x'), /no key "formt".*:4:1.*did you mean "format"/],
  [yaml('  - gptq: { act-order: up }'), /act-order is "up".*:3:13.*use static, gar, group or off/],
  [yaml('  - gptq: { damp: 1 }'), /damp is 1.*a number, at least 0, below 1/],
  [yaml('  - gptq: { block: 1.5 }'), /block is 1.5.*a whole number/],
  [yaml("  - wanda: { sparsity: '2of4' }", '  - rtn: {}'), /sparsity is "2of4".*as 2:4/],
  [yaml("  - wanda: { sparsity: '4:4' }", '  - rtn: {}'), /sparsity is "4:4".*as in 2:4/],
  [yaml('  - gptq: {}', '    rtn: {}'), /an entry of modifiers names one modifier.*:3/],
  [yaml('  - gptq: [1]'), /gptq is \[1\].*use keys with values/],
  ['modifiers: [{ rtn: {} }]\n', /lowbit is missing.*a recipe begins with/],
  ['lowbit: 2\nmodifiers: [{ rtn: {} }]\n', /lowbit is 2.*:1:1.*use 1/],
  [yaml('  - gptq: {}', '  - awq: {}'), /awq cannot follow gptq.*:4:5.*put it before gptq/],
  [yaml('  - rtn: {}', '  - wanda: {}'), /wanda cannot follow rtn: it would prune/],
  [yaml('  - awq: {}', '  - rotate: {}', '  - rtn: {}'), /rotate cannot follow awq.*put it first/],
  [yaml('  - awq: {}', '  - awq: {}', '  - rtn: {}'), /awq cannot follow awq/],
  [yaml('  - wanda: {}', '  - magnitude: {}', '  - rtn: {}'), /magnitude cannot follow wanda/],
  [yaml('  - awq: {}'), /No modifier rounds.*end with rtn, gptq or hqq/],
  [
    yaml('  - gptq: { damp: 0.1, targets: a }', '  - gptq: { damp: 0.2 }'),
    /damp is 0.2 and was 0.1/,
  ],
  [yaml('  - gptq: {', 'x'), /Not YAML/],
  [yaml('  - gptq: {}', 'seed: 1', 'seed: 2'), /Not YAML: Map keys must be unique.*:5:1/],
  ['- just\n- a list\n', /it is .*use keys with values/],
  [
    `a: &a [x, x, x, x, x, x, x, x, x, x]\n${'bcdef'
      .split('')
      .map((k, i) => `${k}: &${k} [${`*${'abcde'[i] ?? ''}, `.repeat(9)}x]`)
      .join('\n')}\n`,
    /Not a recipe/,
  ],
]

for (const [text, message] of WRONG) {
  test(`recipe: refuses ${String(message).slice(1, 50)}`, async (t) => {
    const error = await failsWith(t, 'recipe', () => optionsOf(text))
    t.regex(error.message, message)
  })
}

test('recipe: an unknown name gives the nearest preset, an absent file says so', async (t) => {
  const preset = await failsWith(t, 'option', () => optionsOf('awq-w4a61'))
  t.regex(preset.message, /did you mean "awq-w4a16"/)
  const file = await failsWith(t, 'not-found', () => optionsOf('./absent.yaml'))
  t.regex(file.message, /name a file or a preset/)
})

test('recipe: a file names itself in its errors', async (t) => {
  const file = join(await tempFolder(t), 'mine.yaml')
  await writeFile(file, yaml('  - rtn: { sheme: w4 }'))
  const error = await failsWith(t, 'recipe', () => optionsOf(file))
  t.regex(error.message, /mine\.yaml:3:12/)
})

for (const { name, recipe } of [...PRESETS, ...METHODS]) {
  test(`recipe: ${name} fits the schema and survives being written down`, async (t) => {
    const options = await optionsOf(recipe)
    t.deepEqual(normal(await optionsOf(written(options))), normal(options))
  })
}

test('recipe: any effective options are read back as they were', async (t) => {
  await fc.assert(
    fc.asyncProperty(arbitraryOptions, async (options) => {
      t.deepEqual(normal(await optionsOf(written(options))), normal(options))
    }),
    { numRuns: 300 },
  )
})

test('recipe: the schema that ships describes every key', (t) => {
  const undescribed: string[] = []
  const walk = (schema: typeof SCHEMA, at: string): void => {
    for (const [key, inner] of Object.entries(schema.properties ?? {})) {
      if (inner.description === undefined) undescribed.push(`${at}.${key}`)
      walk(inner, `${at}.${key}`)
    }
    if (schema.items) walk(schema.items, `${at}[]`)
  }
  walk(SCHEMA, '')
  t.deepEqual(undescribed, [])
})

test('recipe: README names only presets that there are', async (t) => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8')
  const named = [...readme.matchAll(/--recipe ([a-z0-9-]+)(?![\w./-])/g)].map((match) => match[1])
  const known = new Set(PRESETS.map(({ name }) => name))
  t.true(named.length > 0)
  t.deepEqual(
    named.filter((name) => !known.has(name ?? '')),
    [],
  )
})

function written(options: CoreOptions): string {
  return recipeText({ version: '0', options, calibration: undefined, maxShardBytes: undefined })
}

/** Without what is as good as absent, and with what rules take from the whole. */
function normal(options: CoreOptions): object {
  const { method, scheme: own, layers } = options
  const rules: object[] = []
  for (const rule of layers ?? []) rules.push({ method, scheme: own, ...rule })
  const full = { ...options, layers: rules }
  const kept = Object.entries(full).filter(
    ([, value]) =>
      (value ?? undefined) !== undefined && !(Array.isArray(value) && value.length === 0),
  )
  return Object.fromEntries(kept)
}

const pattern = fc.constantFrom('model.layers.0.mlp.up_proj', 're:.*q_proj', "re:.*'\\d+: #$")
const scheme = fc.constantFrom('w4g128', 'w8a8', 'w3g128-asym', 'fp8a8b128x128')
const method = fc.constantFrom('rtn', 'gptq', 'hqq')
const ignore = fc.uniqueArray(pattern, { maxLength: 2 })

/** Options with every field that a run of GPTQ reports. */
const arbitraryOptions: fc.Arbitrary<CoreOptions> = fc.record({
  method: fc.constant('gptq'),
  scheme,
  format: fc.constantFrom('compressed-tensors', 'hqq'),
  ignore,
  layers: fc.uniqueArray(fc.record({ pattern, scheme }), {
    maxLength: 3,
    selector: (rule) => rule.pattern,
  }),
  transforms: fc.constantFrom(
    [],
    [{ kind: 'rotate', r1: true, r2: false, random: true } as const],
    [
      {
        kind: 'smoothQuant',
        strength: 0.8,
        layers: [['re:a', 0.5]],
        search: false,
        ignore: [],
      } as const,
    ],
    [{ kind: 'awq', duo: true, grid: 20, clip: false, ignore: ['x'] } as const],
  ),
  prune: fc.constantFrom(
    null,
    { method: 'wanda', sparsity: 0.25, ignore: [] },
    { method: 'sparsegpt', sparsity: 0.5, pattern: '2:4', ignore: ['a'] },
  ),
  observer: fc.constantFrom(null, 'mse', 'imatrix-mse'),
  actOrder: fc.constantFrom('static', 'gar', 'off'),
  trueSequential: fc.boolean(),
  strict: fc.boolean(),
  allowNonfinite: fc.constantFrom(null, 'zero', 'keep'),
  allExperts: fc.boolean(),
  targetBpw: fc.constantFrom(null, 4.25),
  candidates: fc.constantFrom([], ['w3g128', 'w4g128']),
  damp: fc.double({ min: 0, max: 0.99, noNaN: true }),
  block: fc.integer({ min: 1, max: 512 }),
  refine: fc.integer({ min: 0, max: 5 }),
  scaleDtype: fc.constantFrom(null, 'F16'),
  seed: fc.nat(),
  kvCache: fc.constantFrom(null, 'fp8', 'int8-head'),
})

test('recipe: methods of several rounders are read back as they were', async (t) => {
  const rules = fc.uniqueArray(fc.record({ pattern, scheme, method }), {
    minLength: 1,
    maxLength: 3,
    selector: (rule) => rule.pattern,
  })
  await fc.assert(
    fc.asyncProperty(rules, method, ignore, async (layers, base, ignored) => {
      const options = {
        method: base,
        scheme: 'w4g64',
        format: 'compressed-tensors',
        layers,
        ignore: ignored,
      }
      const back = await optionsOf(written(options))
      t.deepEqual(normal(back), normal(options))
    }),
  )
})
