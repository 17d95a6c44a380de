/** Texts, or pairs of texts, to labels with scores. */
import { isObject, type Json } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import type { Loaded } from '../loaded.ts'
import { checkOptions } from '../option-rules.ts'
import type { ClassifyOptions } from '../options.ts'
import { encodeTexts, type TextOrPair } from './batch.ts'

/** What a text was taken for. */
export interface Classification {
  /** The most likely label. */
  readonly label: string
  readonly score: number
  /** Every label, most likely first. */
  readonly scores: readonly { readonly label: string; readonly score: number }[]
}

/** How scores are made of what the model gives. */
export type ScoreFunction = 'softmax' | 'sigmoid' | 'none'

/** One classification per text, in their order. */
export async function classifyTexts(
  loaded: () => Loaded,
  texts: string | readonly TextOrPair[],
  options: ClassifyOptions,
): Promise<Classification[]> {
  checkOptions('classify', options)
  const { info, config } = loaded()
  const list = typeof texts === 'string' ? [texts] : texts
  for (const text of list) checkText(text)
  const values = await encodeTexts(
    loaded,
    list,
    { want: 'labels' },
    {
      signal: options.signal,
      onProgress: options.onProgress,
      limit: info.context,
      truncate: options.truncate ?? true,
    },
  )
  return values.map((logits) => {
    const scores = scored(logits, options.scores ?? functionOf(config, logits.length))
    const all = Array.from(scores, (score, i) => ({ label: labelOf(config, i), score }))
    all.sort((a, b) => b.score - a.score)
    const { label, score } = all[0] ?? { label: '', score: Number.NaN }
    return { label, score, scores: all }
  })
}

function checkText(text: unknown): void {
  const parts: readonly unknown[] = Array.isArray(text) ? text : [text]
  const right = parts.every((part) => typeof part === 'string')
  if (right && (!Array.isArray(text) || parts.length === 2)) return
  throw new LowbitError('option', 'Each text must be a string, or a pair of strings')
}

/** What the config says, or what transformers takes for a model that says nothing. */
function functionOf(config: Json, labels: number): ScoreFunction {
  switch (config['problem_type']) {
    case 'regression':
      return 'none'
    case 'multi_label_classification':
      return 'sigmoid'
    case 'single_label_classification':
      return labels === 1 ? 'sigmoid' : 'softmax'
    default:
      return labels === 1 ? 'sigmoid' : 'softmax'
  }
}

function scored(logits: Float32Array, by: ScoreFunction): number[] {
  if (by === 'none') return [...logits]
  if (by === 'sigmoid') return Array.from(logits, (x) => 1 / (1 + Math.exp(-x)))
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity)
  const powers = Array.from(logits, (x) => Math.exp(x - highest))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map((power) => power / sum)
}

function labelOf(config: Json, i: number): string {
  const names = config['id2label']
  const name = isObject(names) ? names[String(i)] : undefined
  return typeof name === 'string' ? name : `LABEL_${i}`
}
