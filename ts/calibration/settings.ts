/** The options of a calibration set as they are in effect. */
import { LowbitError, nearest, quote } from '../error.ts'
import { listText, textList } from '../option-rules.ts'
import type { CalibrateOptions } from '../options.ts'
import { DEFAULTS as SIZE } from '../recipe/resolve.ts'
import { isObject } from '../bytes.ts'
import { RULES, type Strategy } from './names.ts'

/** Options that decide the bytes of a set. */
export interface Settings extends Readonly<Record<string, unknown>> {
  readonly samples: number
  readonly length: number
  readonly select: Strategy
  /** Shares that add up to 1; null for the languages as they come. */
  readonly mix: Readonly<Record<string, number>> | null
  /** Languages that are kept; null for all. */
  readonly languages: readonly string[] | null
  readonly without: readonly string[]
  readonly minLength: number
  readonly pack: boolean
  readonly field: string | null
  readonly rows: number | null
  readonly skipBad: boolean
  readonly seed: number
}

/** What is taken where nothing is said. */
const DEFAULTS: Settings = {
  samples: SIZE.samples,
  length: SIZE.length,
  select: 'random',
  mix: null,
  languages: null,
  without: [],
  minLength: 8,
  pack: true,
  field: null,
  rows: null,
  skipBad: false,
  seed: 0,
}

/** Defaults filled in; `option` for what contradicts itself. */
export function settingsOf(options: CalibrateOptions): Settings {
  const { mix, languages } = options
  checkRules(options.without ?? [])
  if (options.select === 'perplexity' && options.model === undefined) {
    throw new LowbitError('option', 'The perplexity strategy needs a model', {
      remedy: 'name one with model',
    })
  }
  if (mix !== undefined && languages !== undefined) {
    throw new LowbitError('option', 'mix and languages cannot be given together', {
      remedy: 'mix keeps its own languages only',
    })
  }
  const shares = mix === undefined ? null : sharesOf(mix)
  const kept = languages === undefined ? null : textList('languages', languages)
  return { ...filled(options), mix: shares, languages: shares ? Object.keys(shares) : kept }
}

/** In the order of the defaults, so that the manifest does not depend on how a call is written. */
function filled(options: CalibrateOptions): Settings {
  const settings: Settings = { ...DEFAULTS }
  for (const key of Object.keys(DEFAULTS)) {
    const given: unknown = Reflect.get(options, key)
    if (given !== undefined) Reflect.set(settings, key, given)
  }
  return settings
}

function checkRules(without: unknown): void {
  const unknown = textList('without', without).find((rule) => !RULES.some((one) => one === rule))
  if (unknown === undefined) return
  throw new LowbitError('option', `There is no cleaning rule ${quote(unknown)}`, {
    remedy: `use ${listText(RULES)}; did you mean ${nearest(unknown, RULES)}?`,
  })
}

/** Shares of 1, in the order of the codes, so that the same mix is the same bytes. */
function sharesOf(mix: unknown): Readonly<Record<string, number>> {
  const entries = isObject(mix) ? Object.entries(mix) : []
  const shares = entries.map(([code, share]) => [code, Number(share)] as const)
  const sum = shares.reduce((all, [, share]) => all + share, 0)
  if (entries.length > 0 && shares.every(([, share]) => share > 0) && Number.isFinite(sum)) {
    const sorted = shares.toSorted(([a], [b]) => (a < b ? -1 : 1))
    return Object.fromEntries(sorted.map(([code, share]) => [code, share / sum]))
  }
  throw new LowbitError('option', 'mix must give each language a share above 0', {
    remedy: 'as in { en: 0.5, zh: 0.5 }',
  })
}

/** Samples of each language, by largest remainder; all of them under `''` without a mix. */
export function quotasOf({ mix, samples }: Settings): ReadonlyMap<string, number> {
  if (!mix) return new Map([['', samples]])
  const exact = Object.entries(mix).map(([code, share]) => ({ code, wanted: share * samples }))
  const quotas = new Map(exact.map(({ code, wanted }) => [code, Math.floor(wanted)]))
  let rest = samples - [...quotas.values()].reduce((sum, quota) => sum + quota, 0)
  const byRemainder = exact.toSorted((a, b) => (b.wanted % 1) - (a.wanted % 1))
  for (const { code } of byRemainder) {
    if (rest-- <= 0) break
    quotas.set(code, (quotas.get(code) ?? 0) + 1)
  }
  return quotas
}
