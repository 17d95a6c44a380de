/** A recipe as people write it; `schema.ts` says what each key may hold. */

/** A recipe: modifiers in the order in which they work, and what the run needs beside them. */
export interface RecipeForm {
  /** Version of this form. */
  readonly lowbit: 1
  readonly modifiers: readonly ModifierForm[]
  readonly format?: string
  readonly 'kv-cache'?: string
  readonly calibration?: CalibrationForm
  readonly seed?: number
  readonly strict?: boolean
  readonly 'allow-nonfinite'?: 'zero' | 'keep'
  readonly 'all-experts'?: boolean
  readonly 'max-shard-bytes'?: number
}

/** One modifier: its name and its settings. */
export type ModifierForm = Readonly<Record<string, ModifierSettings | null>>

/** Settings of any modifier, by key. */
export type ModifierSettings = Readonly<Record<string, unknown>>

/** The text that calibration runs on. */
export interface CalibrationForm {
  /** Files by name, relative to the recipe; `lowbit:` in front names one that ships with it. */
  readonly files?: readonly (string | CalibrationFileForm)[]
  readonly samples?: number
  readonly length?: number
}

/** A file and what was in it. */
export interface CalibrationFileForm {
  readonly name: string
  readonly sha256?: string
}

/** Settings of a modifier that rounds, as far as all of them have them. */
export interface RounderForm {
  readonly scheme?: string
  readonly targets?: string | readonly string[]
  readonly ignore?: string | readonly string[]
  readonly layers?: Readonly<Record<string, string | LayerForm>>
}

/** What differs for some layers. */
export interface LayerForm {
  readonly scheme?: string
  readonly method?: string
}

/** What a modifier does, in the order in which they must stand. */
export type ModifierKind = 'transform' | 'prune' | 'round'

/** Every modifier. */
export const MODIFIERS: Readonly<Record<string, ModifierKind>> = {
  rotate: 'transform',
  smoothquant: 'transform',
  awq: 'transform',
  magnitude: 'prune',
  wanda: 'prune',
  sparsegpt: 'prune',
  rtn: 'round',
  gptq: 'round',
  hqq: 'round',
}

/** A text that ships with the package, as recipes name it. */
export const BUNDLED = 'lowbit:'
