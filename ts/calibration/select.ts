/** Which samples make the set: one row for each strategy, which puts the candidates in order. */
import { unitsOf, plainText } from './clean.ts'
import type { Strategy } from './names.ts'
import type { Sample } from './pack.ts'
import { lengthClass } from './pool.ts'
import { hashText, mix } from './random.ts'

interface Row {
  /** How many times the set's tokens there are candidates, in each class of lengths for `length`. */
  readonly choice: number
  /** Candidates, which come in random order, so that any beginning of the list is a good set. */
  readonly order: (samples: readonly Sample[], scores: readonly number[]) => Iterable<Sample>
}

/** Estimates of lengths are off by less than twice, so `random` too has candidates to spare. */
export const TABLE: Readonly<Record<Strategy, Row>> = {
  random: { choice: 2, order: (samples) => samples },
  diverse: { choice: 8, order: diverse },
  length: { choice: 2, order: balanced },
  perplexity: { choice: 4, order: stratified },
}

/** Orders the candidates and takes them until they have `tokens` tokens. */
export function select(
  samples: readonly Sample[],
  strategy: Strategy,
  { tokens, scores }: { tokens: number; scores: readonly number[] },
): readonly Sample[] {
  const chosen: Sample[] = []
  let sum = 0
  for (const sample of TABLE[strategy].order(samples, scores)) {
    if (sum >= tokens) break
    chosen.push(sample)
    sum += sample.length
  }
  return chosen
}

/** Places of a feature vector, and how many candidates are compared with one another. */
const FEATURES = 512
const COMPARED = 4096

/**
 * Farthest-point traversal over TF-IDF features: each next sample is the one least like all that
 * were chosen. Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985. It
 * begins with the sample nearest to the mean, not with an outlier.
 * @yields samples, the most different first
 */
function* diverse(samples: readonly Sample[]): Generator<Sample> {
  const compared = samples.slice(0, COMPARED)
  const features = featuresOf(compared)
  const mean = meanOf(features)
  const left = new Set(compared.keys())
  /** Likeness to the most alike of those that were chosen. */
  const likeness = features.map(() => -1)
  const unlikeness = features.map((one) => -dot(one, mean))
  for (let next = leastOf(unlikeness, left); next >= 0; next = leastOf(likeness, left)) {
    const own = features[next] ?? mean
    yield* compared.slice(next, next + 1)
    left.delete(next)
    for (const i of left) {
      likeness[i] = Math.max(likeness[i] ?? 0, dot(features[i] ?? mean, own))
    }
  }
  yield* samples.slice(COMPARED)
}

function meanOf(features: readonly Float32Array[]): Float32Array {
  const mean = new Float32Array(FEATURES)
  for (const one of features) {
    for (const [i, value] of one.entries()) mean[i] = (mean[i] ?? 0) + value / features.length
  }
  return mean
}

function leastOf(values: readonly number[], among: ReadonlySet<number>): number {
  let least = -1
  for (const i of among) if (least < 0 || (values[i] ?? 0) < (values[least] ?? 0)) least = i
  return least
}

/** Words and pairs of ideographs, hashed, weighted by how rare they are, of unit length. */
function featuresOf(samples: readonly Sample[]): readonly Float32Array[] {
  const counts = samples.map(({ content }) => termCounts(plainText(content)))
  const documents = new Float32Array(FEATURES)
  for (const one of counts) {
    for (const [i, count] of one.entries()) if (count > 0) documents[i] = (documents[i] ?? 0) + 1
  }
  const rarity = documents.map((count) => Math.log(1 + samples.length / Math.max(count, 1)))
  return counts.map((one) => {
    const weighted = one.map((n, i) => (n > 0 ? (1 + Math.log(n)) * (rarity[i] ?? 0) : 0))
    const norm = Math.sqrt(dot(weighted, weighted)) || 1
    return weighted.map((value) => value / norm)
  })
}

function termCounts(text: string): Float32Array {
  const counts = new Float32Array(FEATURES)
  let before = ''
  for (const unit of unitsOf(text.toLowerCase())) {
    // One ideograph says little; two are a word.
    const isShort = unit.length === 1 && before.length === 1
    const place = isShort ? mix(hashText(before) ^ hashText(unit)) : hashText(unit)
    counts[place % FEATURES] = (counts[place % FEATURES] ?? 0) + 1
    before = unit
  }
  return counts
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0
  for (let i = 0; i < FEATURES; i++) sum += (a[i] ?? 0) * (b[i] ?? 0)
  return sum
}

/** The same number of samples from short, long and longer documents: classes are powers of two. */
function balanced(samples: readonly Sample[]): readonly Sample[] {
  const classes = new Map<number, Sample[]>()
  for (const sample of samples) {
    const key = lengthClass(sample.documentLength)
    const members = classes.get(key)
    if (members) members.push(sample)
    else classes.set(key, [sample])
  }
  const lists = [...classes].toSorted((a, b) => a[0] - b[0]).map(([, members]) => members)
  const rounds = Math.max(0, ...lists.map((members) => members.length))
  return Array.from({ length: rounds }, (_, i) => lists.flatMap((list) => list[i] ?? [])).flat()
}

/** Every level of difficulty for the model: ranks by its own perplexity, visited evenly. */
function stratified(samples: readonly Sample[], scores: readonly number[]): readonly Sample[] {
  const ranked = samples
    .map((sample, i) => ({ sample, score: scores[i] ?? 0 }))
    .toSorted((a, b) => a.score - b.score)
  return evenly(ranked.length).flatMap((rank) => ranked[rank]?.sample ?? [])
}

/** 0 to `count` − 1 so that any beginning is spread evenly: van der Corput's sequence in base 2. */
function evenly(count: number): readonly number[] {
  const bits = Math.ceil(Math.log2(Math.max(count, 2)))
  const order = Array.from({ length: 2 ** bits }, (_, i) => {
    let reversed = 0
    for (let bit = 0; bit < bits; bit++) if (i & (1 << bit)) reversed |= 1 << (bits - 1 - bit)
    return reversed
  })
  return order.filter((rank) => rank < count)
}
