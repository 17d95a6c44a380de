/** A recipe and the options of one call to what the core is asked for. */
import type { QuantizeOptions } from '../options.ts'
import { type Compiled, defined, pruneShare } from './compile.ts'
import { type CoreOptions, HEAD, type LayerRule, type Prune, type Transform } from './core.ts'
import {
  type Assignment,
  assignByName,
  assignSimply,
  fits,
  refuseTwice,
  type Rule,
} from './rules.ts'

/** What `quantize` does when nothing is said. */
export const DEFAULTS = {
  method: 'gptq',
  scheme: 'w4g128',
  format: 'auto',
  samples: 128,
  length: 512,
} as const

/** Names of the model's linears; asked for only where patterns cannot be handed on as they are. */
export type Names = () => Promise<readonly string[]>

/** Options of the core: those of the call win over those of the recipe. */
export async function resolveOptions(
  options: QuantizeOptions,
  recipe: Compiled | undefined,
  names: Names,
): Promise<CoreOptions> {
  const own = ownOptions(options)
  if (!recipe) return { ...DEFAULT_OPTIONS, ...own, ...plainAssignment(options) }
  const known = recipe.foreign ? await names() : []
  if (recipe.foreign) refuseTwice(recipe.rules, known)
  const scheme = options.scheme ?? DEFAULTS.scheme
  const rules = withScheme(recipe.rules, options.scheme)
  const simple = recipe.foreign ? undefined : assignSimply(rules, scheme)
  const assigned = simple ?? assignByName(rules, await names(), scheme)
  const shared = recipe.foreign ? fitting(recipe.options, known) : recipe.options
  return {
    format: DEFAULTS.format,
    ...shared,
    ...own,
    ...assigned,
    ...withCall(assigned, options),
  }
}

const DEFAULT_OPTIONS = {
  method: DEFAULTS.method,
  scheme: DEFAULTS.scheme,
  format: DEFAULTS.format,
} as const

/** Options that are handed on under their own name. */
function ownOptions(options: QuantizeOptions): Partial<CoreOptions> {
  const { format, observer, actOrder, damp, block, refine, scaleDtype, seed } = options
  const { trueSequential, strict, allowNonfinite, allExperts, targetBpw, candidates } = options
  const { kvCache } = options
  const more = { trueSequential, strict, allowNonfinite, allExperts, targetBpw, candidates }
  const prune = pruneOf(options)
  return defined({
    format,
    observer,
    actOrder,
    damp,
    block,
    refine,
    scaleDtype,
    seed,
    ...more,
    prune,
    kvCache,
  })
}

function pruneOf({ prune, sparsity }: QuantizeOptions): Prune | undefined {
  if (prune === undefined) return undefined
  return { method: prune, ...pruneShare(sparsity ?? '2:4') }
}

function plainAssignment({ method, scheme, ignore, layers }: QuantizeOptions): Partial<Assignment> {
  const rules = layers?.map(ruleOf)
  return defined({
    method,
    scheme,
    ignore: ignore && [...new Set([HEAD, ...[ignore].flat()])],
    layers: rules,
  })
}

function ruleOf([pattern, scheme]: readonly [string, string]): LayerRule {
  return { pattern, scheme }
}

/** What a call adds to a recipe: its exceptions come first. */
function withCall(
  { ignore = [], layers = [] }: Assignment,
  options: QuantizeOptions,
): Partial<Assignment> {
  const rules = [...(options.layers ?? []).map(ruleOf), ...layers]
  const ignored = [...new Set([...ignore, ...[options.ignore ?? []].flat()])]
  return { ignore: ignored, ...(rules.length > 0 ? { layers: rules } : {}) }
}

/** The scheme of a call is that of the last rounder; exceptions keep theirs. */
function withScheme(rules: readonly Rule[], scheme: string | undefined): readonly Rule[] {
  const last = rules.at(-1)
  if (scheme === undefined || !last) return rules
  return [...rules.slice(0, -1), { ...last, scheme }]
}

/** Patterns of another tool may fit nothing; ours may not. */
function fitting(options: Compiled['options'], names: readonly string[]): Compiled['options'] {
  const kept = <T extends Transform | Prune>(step: T): T => {
    if (!('ignore' in step) || !step.ignore) return step
    const ignore = step.ignore.filter((one) => names.some((name) => fits(one, name)))
    return { ...step, ignore }
  }
  const { transforms, prune } = options
  const changed = { transforms: transforms?.map(kept), prune: prune ? kept(prune) : undefined }
  return { ...options, ...defined(changed) }
}
