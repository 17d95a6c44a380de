/** What a calibration set is made of, in figures. */
import type { Rule } from './names.ts'
import type { Sample } from './pack.ts'
import type { FileFacts } from './read.ts'

/** Why a text is not in the set, beside the rules of cleaning. */
export type Dropped = Rule | 'template' | 'shorter than a sample'

/** What `calibrate` returns; all of it but `out`, `manifest` and `seconds` is in the manifest. */
export interface CalibrateReport {
  /** Where the set and its manifest are; null when nothing was written. */
  readonly out: string | null
  readonly manifest: string | null
  /** Samples of the set, tokens of each, and tokens in all. */
  readonly samples: number
  readonly length: number
  readonly tokens: number
  /** Whether tokens were counted by a model's tokenizer; estimated from words otherwise. */
  readonly exact: boolean
  /** Documents that were read, that cleaning left, and that the set was chosen from. */
  readonly documents: { readonly read: number; readonly kept: number; readonly candidates: number }
  /** Texts that each rule of cleaning changed. */
  readonly changed: Readonly<Record<string, number>>
  /** Texts that were left out, by the reason. */
  readonly dropped: Readonly<Record<string, number>>
  /** Share of the set's tokens in each language. */
  readonly languages: Readonly<Record<string, number>>
  /** Tokens of the documents that the set was chosen from; null where there are none. */
  readonly lengths: Spread | null
  /** How much of the vocabulary occurs in the set; null without a tokenizer. */
  readonly coverage: {
    readonly seen: number
    readonly vocabulary: number
    readonly share: number
  } | null
  /** The model's own perplexity on the samples, where they were chosen by it. */
  readonly perplexity: Spread | null
  readonly sources: readonly FileFacts[]
  /** What the reader should know. */
  readonly notes: readonly string[]
  readonly seconds: number
}

/** How values are spread. */
export interface Spread {
  readonly min: number
  readonly p10: number
  readonly median: number
  readonly p90: number
  readonly max: number
  readonly mean: number
}

/** Counts while the set is made. */
export class Tally {
  readonly changed: Map<string, number> = new Map()
  readonly dropped: Map<string, number> = new Map()
  readonly lengths: number[] = []
  read = 0
  kept = 0

  readonly change = (rule: Rule): void => add(this.changed, rule, 1)
  readonly drop = (why: Dropped): void => add(this.dropped, why, 1)
}

function add(map: Map<string, number>, key: string, amount: number): void {
  map.set(key, (map.get(key) ?? 0) + amount)
}

/** Minimum, deciles and mean; null of nothing. */
export function spreadOf(values: readonly number[]): Spread | null {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? 0
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  return { min: at(0), p10: at(0.1), median: at(0.5), p90: at(0.9), max: at(1), mean }
}

/** Counts in the order of their names, so that the same counts are the same bytes. */
export function recordOf(counts: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** Share of tokens in each language, most first. */
export function languageShares(samples: readonly Sample[]): Record<string, number> {
  const tokens = new Map<string, number>()
  let all = 0
  for (const { language, length } of samples) {
    add(tokens, language, length)
    all += length
  }
  const most = [...tokens].toSorted((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
  return Object.fromEntries(most.map(([language, count]) => [language, count / all]))
}

/** How many tokens of a vocabulary occur. */
export function coverageOf(
  samples: readonly Sample[],
  vocabulary: number,
): NonNullable<CalibrateReport['coverage']> {
  const seen = new Set<number>()
  for (const { tokens } of samples) for (const token of tokens ?? []) seen.add(token)
  return { seen: seen.size, vocabulary, share: seen.size / Math.max(1, vocabulary) }
}
