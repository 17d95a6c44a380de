/** A random choice among more than memory holds: the documents with the smallest priorities stay. */
import { estimateTokens, plainText } from './clean.ts'
import { priorityOf } from './random.ts'
import type { Document } from './rows.ts'

/** A document that may be chosen. */
export interface Candidate {
  readonly document: Document
  readonly language: string
  /** About how many tokens it has, and the whole has that it is a part of. */
  readonly estimate: number
  readonly whole: number
  readonly priority: number
}

/** Bottom-k sampling: every document has the same chance, whatever the order they come in. */
export class Pool {
  readonly #capacity: number
  readonly #seed: number
  readonly #byLength: boolean
  readonly #shelves = new Map<number, Shelf>()
  #offered = 0

  /** Keeps documents of about `capacity` tokens, or so many of each class of length. */
  constructor(capacity: number, seed: number, byLength: boolean = false) {
    this.#capacity = capacity
    this.#seed = seed
    this.#byLength = byLength
  }

  /** Offers a document, a part of one that has about `whole` tokens. */
  add(document: Document, language: string, whole?: number): void {
    const priority = priorityOf(this.#seed, this.#offered++)
    const estimate = Math.max(1, estimateTokens(plainText(document.content)))
    const candidate = { document, language, estimate, whole: whole ?? estimate, priority }
    const key = this.#byLength ? lengthClass(candidate.whole) : 0
    const shelf = this.#shelves.get(key) ?? new Shelf(this.#capacity)
    this.#shelves.set(key, shelf)
    shelf.add(candidate)
  }

  /** What was kept, in an order that is random. */
  candidates(): readonly Candidate[] {
    return [...this.#shelves.values()].flatMap((shelf) => shelf.kept()).toSorted(byPriority)
  }
}

/** Classes of length are powers of two. */
export function lengthClass(tokens: number): number {
  return Math.floor(Math.log2(Math.max(1, tokens)))
}

/** Candidates with the smallest priorities. */
class Shelf {
  readonly #capacity: number
  #kept: Candidate[] = []
  #tokens = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  add(candidate: Candidate): void {
    this.#kept.push(candidate)
    this.#tokens += candidate.estimate
    if (this.#tokens > 2 * this.#capacity) this.#shrink()
  }

  kept(): readonly Candidate[] {
    this.#shrink()
    return this.#kept
  }

  #shrink(): void {
    this.#kept.sort(byPriority)
    let tokens = 0
    let kept = 0
    for (const { estimate } of this.#kept) {
      if (tokens >= this.#capacity) break
      tokens += estimate
      kept++
    }
    this.#kept.length = kept
    this.#tokens = tokens
  }
}

function byPriority(a: Candidate, b: Candidate): number {
  return a.priority - b.priority
}
