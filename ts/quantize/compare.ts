/** What the original and the result write on from the same prompts. */
import type { Binding } from '../binding.ts'
import { LowbitError } from '../error.ts'
import type { Host, Source } from '../host.ts'
import { loadModel } from '../model.ts'
import { textList } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import type { Meter } from '../progress.ts'

/** One prompt and what followed. */
export interface Compared {
  readonly prompt: string
  readonly before: string
  readonly after: string
}

/** Prompts when none are given. */
const PROMPTS = [
  'Once upon a time',
  'The most important thing about science is',
  'She opened the letter and read',
] as const

/** Tokens that are generated for each. */
const MAX_TOKENS = 48

/** Prompts of a call; none when texts are not asked for. */
export function promptsOf({ compareText }: QuantizeOptions): readonly string[] {
  if (compareText === undefined || compareText === false) return []
  if (compareText === true) return PROMPTS
  const prompts = textList('compareText', compareText)
  if (prompts.length > 0) return prompts
  throw new LowbitError('option', 'compareText names no prompt', { remedy: 'use true' })
}

/** What is needed to run both. */
export interface Comparing {
  readonly binding: Binding
  readonly host: Host
  readonly before: Source
  readonly after: Source
  readonly signal: AbortSignal | undefined
  readonly report: Meter
}

/** The likeliest text after each prompt, from one model and then the other: in f32 on the CPU. */
export async function compareTexts(
  comparing: Comparing,
  prompts: readonly string[],
): Promise<readonly Compared[]> {
  if (prompts.length === 0) return []
  const before = await textsOf(comparing, comparing.before, prompts, 0)
  const after = await textsOf(comparing, comparing.after, prompts, prompts.length)
  return prompts.map((prompt, i) => ({ prompt, before: before[i] ?? '', after: after[i] ?? '' }))
}

async function textsOf(
  { binding, host, signal, report }: Comparing,
  source: Source,
  prompts: readonly string[],
  done: number,
): Promise<readonly string[]> {
  const total = 2 * prompts.length
  report({ stage: 'compare', done, total })
  const model = await loadModel(binding, host, source, { device: 'cpu', compute: 'f32', signal })
  try {
    const texts: string[] = []
    for (const prompt of prompts) {
      let text = ''
      const pieces = model.generate(prompt, { temperature: 0, maxTokens: MAX_TOKENS, signal })
      for await (const piece of pieces) text += piece
      texts.push(text)
      report({ stage: 'compare', done: done + texts.length, total })
    }
    return texts
  } finally {
    await model.dispose()
  }
}
