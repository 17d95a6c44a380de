/** Names that options are checked against; kept apart so that checking loads nothing else. */

/** Every rule of cleaning; the last three leave texts out. */
export const RULES = [
  'markup',
  'control',
  'unicode',
  'whitespace',
  'short',
  'language',
  'duplicate',
] as const

/** The name of a rule. */
export type Rule = (typeof RULES)[number]

/** Every strategy of choosing samples. */
export const STRATEGIES = ['random', 'diverse', 'length', 'perplexity'] as const

/** The name of a strategy. */
export type Strategy = (typeof STRATEGIES)[number]
