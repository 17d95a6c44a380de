/** Which rounder takes which linear. Patterns fit as in compressed-tensors. */
import { LowbitError, quote } from '../error.ts'
import type { CoreOptions, LayerRule } from './core.ts'

/** One rounder and the linears it takes. */
export interface Rule {
  readonly targets: readonly string[]
  readonly ignore: readonly string[]
  readonly method: string
  /** The run's own scheme when absent. */
  readonly scheme: string | undefined
  /** Position of the modifier that it comes from. */
  readonly by: number
}

/** The part of the options that says who rounds what. */
export type Assignment = Pick<CoreOptions, 'method' | 'scheme' | 'ignore' | 'layers'>

/** The class of every module that is quantized. */
const LINEAR = 'Linear'

/** Whether a linear is meant: its name, `re:` and an expression from its start, or the class. */
export function fits(pattern: string, name: string): boolean {
  if (pattern === LINEAR || pattern === name) return true
  return pattern.startsWith('re:') && expression(pattern).test(name)
}

function expression(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${pattern.slice(3)})`)
  } catch (cause) {
    throw new LowbitError('recipe', `${quote(pattern)} is no regular expression`, { cause })
  }
}

/** The rule that takes a linear, if any. */
export function ruleOf(rules: readonly Rule[], name: string): Rule | undefined {
  return rules.find((rule) => takes(rule, name))
}

function takes({ targets, ignore }: Rule, name: string): boolean {
  return targets.some((target) => fits(target, name)) && !ignore.some((one) => fits(one, name))
}

/** Rules as the core has them, where no names of modules are needed for that. */
export function assignSimply(rules: readonly Rule[], scheme: string): Assignment | undefined {
  const base = rules.at(-1)
  if (!base?.targets.includes(LINEAR)) return undefined
  const ignored = base.ignore.toSorted().join('\n')
  const same = rules.every(({ ignore }) => ignore.toSorted().join('\n') === ignored)
  return same ? assignmentOf(rules.slice(0, -1), base, base.ignore, scheme) : undefined
}

function assignmentOf(
  rules: readonly Rule[],
  base: Rule,
  ignore: readonly string[],
  scheme: string,
): Assignment {
  const layers = rules.flatMap((rule) =>
    rule.targets.map((target) => layerRule(target, rule, base)),
  )
  return {
    method: base.method,
    scheme: base.scheme ?? scheme,
    ignore: [...new Set(ignore)],
    ...(layers.length > 0 ? { layers } : {}),
  }
}

function layerRule(pattern: string, rule: Rule, base: Rule): LayerRule {
  return {
    pattern,
    ...(rule.scheme === undefined || rule.scheme === base.scheme ? {} : { scheme: rule.scheme }),
    ...(rule.method === base.method ? {} : { method: rule.method }),
  }
}

/** Rules for these very linears; those that no rule takes are ignored. */
export function assignByName(
  rules: readonly Rule[],
  names: readonly string[],
  scheme: string,
): Assignment {
  const taken = new Map(names.map((name) => [name, ruleOf(rules, name)]))
  const left = names.filter((name) => !taken.get(name))
  const base = rules.findLast((rule) => [...taken.values()].includes(rule)) ?? rules.at(-1)
  if (!base) throw new LowbitError('recipe', 'No modifier rounds')
  const byPattern = patternsFor(rules, names, { base, left, scheme })
  if (byPattern) return byPattern
  const own = [...taken].flatMap(([name, rule]) =>
    rule && (rule.method !== base.method || rule.scheme !== base.scheme)
      ? [{ ...rule, targets: [name] }]
      : [],
  )
  return assignmentOf(own, base, left, scheme)
}

interface Wanted {
  readonly base: Rule
  readonly left: readonly string[]
  readonly scheme: string
}

/** The rules' own patterns, if they say the same: a recipe with few lines is easier to read. */
function patternsFor(
  rules: readonly Rule[],
  names: readonly string[],
  wanted: Wanted,
): Assignment | undefined {
  const { base, left, scheme } = wanted
  const kept = (patterns: readonly string[]): readonly string[] =>
    patterns.filter((one) => isPlain(one) && names.some((name) => fits(one, name)))
  const others: Rule[] = []
  for (const rule of rules) {
    if (rule !== base) others.push({ ...rule, ignore: [], targets: kept(rule.targets) })
  }
  const patterns = kept(base.ignore)
  const exact = left.filter((name) => !patterns.some((one) => fits(one, name)))
  const ignore = [...patterns, ...exact]
  const found: Rule[] = [...others, { ...base, targets: [LINEAR], ignore }]
  const agrees = names.every((name) => {
    const was = ruleOf(rules, name)
    const now = ignore.some((one) => fits(one, name)) ? undefined : ruleOf(found, name)
    return was?.method === now?.method && was?.scheme === now?.scheme
  })
  return agrees ? assignmentOf(others, base, ignore, scheme) : undefined
}

/** `recipe` when two modifiers round the same linear. */
export function refuseTwice(rules: readonly Rule[], names: readonly string[]): void {
  for (const name of names) {
    const [first, ...others] = rules.filter((rule) => takes(rule, name))
    if (first && others.some(({ by }) => by !== first.by)) {
      throw new LowbitError('recipe', `Two modifiers quantize ${quote(name)}`, {
        remedy: 'let the targets of each be different linears',
      })
    }
  }
}

/** Whether the core can follow a pattern: it has no look-around and no back-references. */
function isPlain(pattern: string): boolean {
  return !/\(\?[=!<]|\\[1-9]/.test(pattern)
}
