/** What the readers of llm-compressor's modifiers share. */
import { LowbitError } from '../error.ts'
import type { Presets } from './foreign-schemes.ts'
import type { Path, RecipeSource } from './source.ts'

/** Where a modifier is, and what the reader should know. */
export interface Translating {
  readonly source: RecipeSource
  readonly path: Path
  readonly name: string
  readonly presets: Presets
  readonly notes: string[]
  /** Schemes of the KV cache that modifiers name. */
  readonly caches: Set<string>
}

/** Texts, given as one or many. */
export function listOf(value: unknown): readonly string[] {
  if (value === undefined || value === null) return []
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  return list.map(String)
}

/** The error of a key that is not followed. */
export function refuse(at: Translating, key: string, what: string, remedy?: string): LowbitError {
  const place = at.source.place([...at.path, key])
  return new LowbitError('recipe', `${at.name}: ${what}`, { place, remedy })
}
