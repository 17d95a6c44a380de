/** The effective recipe of a run: every option by its value, in the form that `read.ts` reads. */
import { stringify } from 'yaml'
import { defined } from './compile.ts'
import type { CoreOptions, LayerRule, Transform } from './core.ts'
import type { CalibrationForm, ModifierForm, RecipeForm } from './form.ts'

/** What a run was made with. */
export interface Effective {
  /** Version of the package. */
  readonly version: string
  readonly options: CoreOptions
  readonly calibration: CalibrationForm | undefined
  readonly maxShardBytes: number | undefined
  /** Bits per weight that the schemes were chosen for. */
  readonly targetBpw?: number | undefined
  /** Name of the importance matrix that ranges were searched with. */
  readonly imatrix?: string | undefined
}

/** Where an editor finds the schema. */
const SCHEMA = './node_modules/lowbit/dist/recipe.schema.json'

/** recipe.yaml; it gives the same bytes again. */
export function recipeText(effective: Effective): string {
  const { imatrix } = effective
  const given = imatrix === undefined ? '' : ` --imatrix ${imatrix}`
  const head = [
    `# yaml-language-server: $schema=${SCHEMA}`,
    `# Made by lowbit ${effective.version}. With this recipe it makes the same bytes again:`,
    `#   lowbit quantize <model> -o <folder> --recipe recipe.yaml${given}`,
    ...chosen(effective),
  ]
  const body = stringify(recipeForm(effective), { lineWidth: 0, singleQuote: true })
  return `${head.join('\n')}\n${body}`
}

function chosen({ targetBpw }: Effective): readonly string[] {
  return targetBpw === undefined ? [] : [`# Schemes were chosen for ${targetBpw} bits per weight.`]
}

/** The recipe as values. */
export function recipeForm({ options, calibration, maxShardBytes }: Effective): RecipeForm {
  const { format, seed, strict, allExperts, allowNonfinite, kvCache } = options
  return {
    lowbit: 1,
    modifiers: modifiersOf(options),
    ...defined({
      format,
      'kv-cache': kvCache ?? undefined,
      calibration,
      seed,
      strict,
      'all-experts': allExperts,
      'allow-nonfinite': nonfinite(allowNonfinite),
      'max-shard-bytes': maxShardBytes,
    }),
  }
}

function modifiersOf(options: CoreOptions): readonly ModifierForm[] {
  const { transforms = [], prune } = options
  const pruning = prune ? [{ [prune.method]: pruneSettings(options, prune) }] : []
  return [...transforms.map(transformForm), ...pruning, ...rounders(options)]
}

function transformForm(transform: Transform): ModifierForm {
  const { kind, ...settings } = transform
  if (transform.kind !== 'smoothQuant') return { [kind]: settings }
  const { strength, layers = [], search, ignore } = transform
  const strengths = layers.length > 0 ? Object.fromEntries(layers) : undefined
  return { smoothquant: defined({ strength, layers: strengths, search, ignore }) }
}

function pruneSettings(
  options: CoreOptions,
  prune: NonNullable<CoreOptions['prune']>,
): Record<string, unknown> {
  const { method, sparsity, pattern, ignore } = prune
  const own = method === 'sparsegpt' ? { damp: options.damp, block: options.block } : {}
  return defined({ sparsity: pattern ?? sparsity, ignore, ...own })
}

/** One rounder with exceptions, or one for each rule where methods differ. */
function rounders(options: CoreOptions): readonly ModifierForm[] {
  const { method, scheme, ignore, layers = [] } = options
  const settings = (of: string): Record<string, unknown> => ({
    ...defined({ ignore }),
    ...shared(options, of),
  })
  const other = layers.some((rule) => (rule.method ?? method) !== method)
  if (!other) {
    const exceptions = Object.fromEntries(
      layers.map((rule) => [rule.pattern, rule.scheme ?? scheme]),
    )
    const more = layers.length > 0 ? { layers: exceptions } : {}
    return [{ [method]: { scheme, ...more, ...settings(method) } }]
  }
  const ruled = layers.map((rule: LayerRule) => {
    const by = rule.method ?? method
    return { [by]: { scheme: rule.scheme ?? scheme, targets: [rule.pattern], ...settings(by) } }
  })
  return [...ruled, { [method]: { scheme, ...settings(method) } }]
}

function shared(options: CoreOptions, method: string): Record<string, unknown> {
  const { observer, scaleDtype, targetBpw, candidates, actOrder, trueSequential } = options
  const { damp, block, refine } = options
  const own =
    method === 'gptq'
      ? { 'act-order': actOrder, 'true-sequential': trueSequential, damp, block, refine }
      : {}
  return defined({
    observer: observer ?? undefined,
    'scale-dtype': scaleDtype ?? undefined,
    'target-bpw': targetBpw ?? undefined,
    candidates: candidates && candidates.length > 0 ? candidates : undefined,
    ...own,
  })
}

function nonfinite(value: string | null | undefined): 'zero' | 'keep' | undefined {
  return value === 'zero' || value === 'keep' ? value : undefined
}
