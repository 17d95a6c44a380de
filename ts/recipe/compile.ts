/** A recipe to the core's options: transforms in order, then pruning, then rounding. */
import { LowbitError } from '../error.ts'
import { type CoreOptions, HEAD, type Prune, type Transform } from './core.ts'
import {
  type CalibrationForm,
  type LayerForm,
  type ModifierKind,
  type ModifierSettings,
  MODIFIERS,
  type RecipeForm,
  type RounderForm,
} from './form.ts'
import type { Rule } from './rules.ts'
import type { RecipeSource } from './source.ts'

/** A recipe as the run needs it. */
export interface Compiled {
  /** The name of a preset, or where the text came from. */
  readonly name: string
  /** Options that are the same for every linear. */
  readonly options: Omit<Partial<CoreOptions>, 'method' | 'scheme' | 'ignore' | 'layers'>
  /** Who rounds which linears; the first that fits decides. */
  readonly rules: readonly Rule[]
  /** Written for another tool: patterns may fit nothing, and no linear is rounded twice. */
  readonly foreign: boolean
  readonly calibration: CalibrationForm
  readonly maxShardBytes: number | undefined
  readonly notes: readonly string[]
  /** Where its file is, with the separator; its files are named from there. */
  readonly folder?: string
}

/** Where a compiled recipe comes from. */
export interface Origin {
  readonly name: string
  readonly foreign: boolean
  readonly notes: readonly string[]
}

/** One modifier of the list. */
interface Step {
  readonly name: string
  readonly kind: ModifierKind
  readonly settings: ModifierSettings
  readonly index: number
}

/** Options that a modifier sets for all linears, by their keys in a recipe. */
const SHARED: Readonly<Record<string, keyof Compiled['options']>> = {
  observer: 'observer',
  'act-order': 'actOrder',
  'true-sequential': 'trueSequential',
  damp: 'damp',
  block: 'block',
  refine: 'refine',
  'scale-dtype': 'scaleDtype',
  'target-bpw': 'targetBpw',
  candidates: 'candidates',
}

/** What works before what. */
const STAGES: readonly ModifierKind[] = ['transform', 'prune', 'round']

/** Why a modifier cannot stand behind one of a later kind. */
const LATE: Readonly<Record<ModifierKind, string>> = {
  transform: 'it changes weights that are pruned or rounded already',
  prune: 'it would prune weights that are rounded already',
  round: '',
}

/** Compiles a checked recipe; `recipe` with the reason for an order that cannot be. */
export function compileForm(form: RecipeForm, source: RecipeSource, origin: Origin): Compiled {
  const steps = form.modifiers.map(stepOf)
  checkOrder(steps, source)
  const of = (kind: ModifierKind): readonly Step[] => steps.filter((step) => step.kind === kind)
  const [pruning] = of('prune')
  const transforms = of('transform').map(transformOf)
  const { seed, strict, format } = form
  const options = {
    format,
    transforms: transforms.length > 0 ? transforms : undefined,
    prune: pruning && pruneOf(pruning, source),
    ...sharedOf([...of('prune'), ...of('round')], source),
    seed,
    strict,
    allowNonfinite: form['allow-nonfinite'],
    allExperts: form['all-experts'],
    kvCache: form['kv-cache'],
  }
  const { calibration = {}, 'max-shard-bytes': maxShardBytes } = form
  const rules = of('round').flatMap(rulesOf)
  return { ...origin, options: defined(options), rules, calibration, maxShardBytes }
}

function stepOf(modifier: RecipeForm['modifiers'][number], index: number): Step {
  const [[name, settings] = ['', null]] = Object.entries(modifier)
  return { name, settings: settings ?? {}, index, kind: MODIFIERS[name] ?? 'round' }
}

function checkOrder(steps: readonly Step[], source: RecipeSource): void {
  const refuse = (step: Step, what: string, remedy: string): LowbitError =>
    new LowbitError('recipe', what, {
      place: source.place(['modifiers', step.index, step.name]),
      remedy,
    })
  for (const [i, step] of steps.entries()) {
    const before = steps.slice(0, i)
    const later = before.find(({ kind }) => STAGES.indexOf(kind) > STAGES.indexOf(step.kind))
    if (later) {
      throw refuse(
        step,
        `${step.name} cannot follow ${later.name}: ${LATE[step.kind]}`,
        `put it before ${later.name}`,
      )
    }
    const twice = before.find(({ name, kind }) =>
      step.kind === 'prune' ? kind === 'prune' : step.kind === 'transform' && name === step.name,
    )
    if (twice) {
      throw refuse(
        step,
        `${step.name} cannot follow ${twice.name}: weights are changed so once`,
        'leave one of them out',
      )
    }
    if (step.name === 'rotate' && before.length > 0) {
      const first = before[0]?.name ?? ''
      throw refuse(
        step,
        `rotate cannot follow ${first}: it folds norms into linears, and with them the scales of ${first}`,
        'put it first',
      )
    }
  }
  if (!steps.some(({ kind }) => kind === 'round')) {
    throw new LowbitError('recipe', 'No modifier rounds', {
      place: source.place(['modifiers']),
      remedy: 'end with rtn, gptq or hqq',
    })
  }
}

function transformOf({ name, settings }: Step): Transform {
  const { ignore, ...rest } = settings
  const left = ignore === undefined ? {} : { ignore: listOf(ignore) }
  if (name === 'rotate') return { kind: 'rotate', ...rest }
  if (name === 'awq') return { kind: 'awq', ...rest, ...left }
  const { layers, ...same } = rest
  const pairs = Object.entries({ ...asObject(layers) }).map(
    ([pattern, strength]) => [pattern, Number(strength)] as const,
  )
  return {
    kind: 'smoothQuant',
    ...same,
    ...(layers === undefined ? {} : { layers: pairs }),
    ...left,
  }
}

function pruneOf({ name, settings, index }: Step, source: RecipeSource): Prune {
  const { sparsity, ignore } = settings
  const left = ignore === undefined ? {} : { ignore: listOf(ignore) }
  const share = pruneShare(sparsity)
  if (share) return { method: name, ...share, ...left }
  throw new LowbitError('recipe', `sparsity is ${JSON.stringify(sparsity)}`, {
    place: source.place(['modifiers', index, name, 'sparsity']),
    remedy: 'n of every m are less than all, as in 2:4',
  })
}

/** `0.5` or `2:4`; nothing when n is not below m. */
export function pruneShare(sparsity: unknown): Pick<Prune, 'sparsity' | 'pattern'> | undefined {
  if (typeof sparsity !== 'string') return typeof sparsity === 'number' ? { sparsity } : {}
  const [n = 0, m = 0] = sparsity.split(':').map(Number)
  return n > 0 && n < m ? { sparsity: n / m, pattern: sparsity } : undefined
}

/** What several modifiers say about all linears must be the same. */
function sharedOf(steps: readonly Step[], source: RecipeSource): Compiled['options'] {
  const found = new Map<string, { value: unknown; by: Step }>()
  for (const step of steps) {
    for (const key of Object.keys(SHARED)) {
      const value = step.settings[key]
      const known = found.get(key)
      if (known && value !== undefined && JSON.stringify(known.value) !== JSON.stringify(value)) {
        throw new LowbitError(
          'recipe',
          `${key} is ${JSON.stringify(value)} and was ${JSON.stringify(known.value)} in ${known.by.name}`,
          {
            place: source.place(['modifiers', step.index, step.name, key]),
            remedy: 'one value holds for all linears',
          },
        )
      }
      if (value !== undefined) found.set(key, { value, by: step })
    }
  }
  return Object.fromEntries([...found].map(([key, { value }]) => [SHARED[key], value]))
}

/** A rounder's own exceptions, then itself. */
function rulesOf({ name, settings, index }: Step): readonly Rule[] {
  const { scheme, targets, ignore, layers }: RounderForm = settings
  const ignored = ignore === undefined ? [HEAD] : listOf(ignore)
  const own = {
    targets: listOf(targets ?? 'Linear'),
    ignore: ignored,
    method: name,
    scheme,
    by: index,
  }
  const exceptions: Rule[] = []
  for (const [pattern, value] of Object.entries(layers ?? {})) {
    const form: LayerForm = typeof value === 'string' ? { scheme: value } : value
    const method = form.method ?? name
    exceptions.push({ ...own, targets: [pattern], scheme: form.scheme ?? scheme, method })
  }
  return [...exceptions, own]
}

function listOf(value: unknown): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  return list.map(String)
}

function asObject(value: unknown): object {
  return typeof value === 'object' && value !== null ? value : {}
}

/** An object whose keys, if they are there, hold something. */
export type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> }

/** Without keys that hold nothing. */
export function defined<T extends object>(options: T): Defined<T> {
  const result: Defined<T> = { ...options }
  for (const key of Object.keys(result)) {
    if (Reflect.get(result, key) === undefined) Reflect.deleteProperty(result, key)
  }
  return result
}
