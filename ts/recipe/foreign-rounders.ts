/** Schemes, targets and observers of llm-compressor's quantizing modifiers. */
import { isObject, type Json } from '../bytes.ts'
import { quote } from '../error.ts'
import { listText } from '../option-rules.ts'
import { listOf, refuse, type Translating } from './foreign-parts.ts'
import { groupScheme, presetScheme } from './foreign-schemes.ts'

const OBSERVERS: Readonly<Record<string, string>> = {
  minmax: 'minmax',
  memoryless_minmax: 'minmax',
  static_minmax: 'minmax',
  mse: 'mse',
  memoryless_mse: 'mse',
  imatrix_mse: 'imatrix-mse',
}

/** Patterns with schemes, as `config_groups`, `scheme` or both say. */
interface Aim {
  readonly pattern: string
  readonly scheme: string
}

/** Settings of one of our rounders from `targets`, `ignore` and `scheme` or `config_groups`. */
export function rounder(args: Json, at: Translating): Readonly<Record<string, unknown>> {
  const aims = aimsOf(args, at).toSorted((a, b) => rank(a.pattern) - rank(b.pattern))
  const last = aims.at(-1)
  const own = aims.filter(({ scheme }) => scheme === last?.scheme)
  // The other schemes come first: they are more specific, or as specific and named before.
  const others = aims.filter((aim) => !own.includes(aim))
  const ignore = listOf(args['ignore'])
  if (!ignore.some((one) => /lm_head/.test(one))) at.notes.push('lm_head stays as it is stored')
  return {
    scheme: last?.scheme,
    targets: own.map(({ pattern }) => pattern),
    ignore,
    ...(others.length > 0
      ? { layers: Object.fromEntries(others.map(({ pattern, scheme }) => [pattern, scheme])) }
      : {}),
    observer: observerOf(args, at),
  }
}

/** Names before expressions before classes, as compressed-tensors decides. */
function rank(pattern: string): number {
  return pattern === 'Linear' ? 2 : pattern.startsWith('re:') ? 1 : 0
}

function aimsOf(args: Json, at: Translating): readonly Aim[] {
  const { config_groups: groups, scheme, targets } = args
  if (isObject(groups))
    return Object.entries(groups).flatMap(([name, group]) => groupAims(name, group, at))
  if (isObject(scheme)) {
    return Object.entries(scheme).flatMap(([name, to]) =>
      listOf(to).map((pattern) => ({ pattern, scheme: named(name, at) })),
    )
  }
  if (typeof scheme !== 'string')
    throw refuse(
      at,
      'scheme',
      'there is neither scheme nor config_groups',
      `use ${listText([...at.presets.keys()])}`,
    )
  return patternsOf(targets ?? ['Linear'], at).map((pattern) => ({
    pattern,
    scheme: named(scheme, at),
  }))
}

function groupAims(name: string, group: unknown, at: Translating): readonly Aim[] {
  if (typeof group === 'string')
    throw refuse(at, 'config_groups', `${name} holds no keys`, 'expected targets and weights')
  const found = isObject(group) ? group : {}
  // llm-compressor takes a preset's name with its targets too.
  const scheme = presetScheme(at.presets, name) ?? groupScheme(found)
  if (typeof scheme !== 'string') {
    throw refuse(at, 'config_groups', `${name}.${scheme.key}: ${scheme.what}`)
  }
  return patternsOf(found['targets'] ?? ['Linear'], at).map((pattern) => ({ pattern, scheme }))
}

/** Linears by name, expression or their class; other classes hold none of their own. */
function patternsOf(targets: unknown, at: Translating): readonly string[] {
  const list = listOf(targets)
  const other = list.find((one) => /^[A-Z][A-Za-z0-9]*$/.test(one) && one !== 'Linear')
  if (other === undefined) return list
  throw refuse(at, 'targets', `modules of class ${quote(other)} are not quantized`, 'use Linear')
}

function named(name: string, at: Translating): string {
  const scheme = presetScheme(at.presets, name)
  if (scheme !== undefined) return scheme
  throw refuse(
    at,
    'scheme',
    `scheme ${quote(name)} is not written here`,
    `use ${listText([...at.presets.keys()])}`,
  )
}

/** One observer for all weights; llm-compressor's own is min-max. */
function observerOf(args: Json, at: Translating): string {
  const { observer, weight_observer: own, config_groups: groups } = args
  const ofGroups = Object.values(isObject(groups) ? groups : {}).map((group) => {
    const weights = isObject(group) ? group['weights'] : undefined
    return isObject(weights) ? weights['observer'] : undefined
  })
  const said = [own, isObject(observer) ? observer['weights'] : observer, ...ofGroups]
  const names = [...new Set(said.filter((one) => one !== undefined && one !== null).map(String))]
  const ours = [...new Set(names.map((name) => OBSERVERS[name] ?? name))]
  const [name = 'minmax'] = ours
  const known = Object.values(OBSERVERS).includes(name)
  if (ours.length < 2 && known) return name
  throw refuse(
    at,
    'observer',
    known
      ? `observers ${listText(names)} in one recipe`
      : `observer ${quote(name)} is not done here`,
    `use one of ${listText(Object.keys(OBSERVERS))}`,
  )
}

/** GPTQ's own settings; its defaults are llm-compressor's. */
export function gptqSettings(args: Json, at: Translating): Readonly<Record<string, unknown>> {
  const { block_size: block = 128, dampening_frac: damp, actorder = 'static' } = args
  const orders: Readonly<Record<string, string>> = {
    static: 'static',
    weight: 'static',
    group: 'group',
    dynamic: 'group',
    null: 'off',
    false: 'off',
    true: 'group',
  }
  const order = orders[String(actorder)]
  if (order === undefined)
    throw refuse(
      at,
      'actorder',
      `actorder ${quote(String(actorder))} is not done here`,
      'use static, group or null',
    )
  // The paper's result, as that tool gives it.
  return { block, damp: damp ?? 0.01, 'act-order': order, refine: 0 }
}
