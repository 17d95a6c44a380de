/** The model's own perplexity on samples. */
import { LowbitError, throwIfAborted } from '../error.ts'
import { loadedOf } from '../loaded.ts'
import type { Model } from '../model.ts'
import type { Meter } from '../progress.ts'
import type { Sample } from './pack.ts'

/** What scoring reports to and is stopped by. */
export interface Scoring {
  readonly report: Meter
  readonly signal: AbortSignal | undefined
}

/** Perplexity of each sample: exp of the mean negative log-likelihood of its tokens. */
export async function perplexities(
  model: Model,
  samples: readonly Sample[],
  { report, signal }: Scoring,
): Promise<readonly number[]> {
  const { binding, handle, info, place } = loadedOf(model)
  const values: number[] = []
  for (const [i, { tokens }] of samples.entries()) {
    throwIfAborted(signal)
    report({ stage: 'evaluate', done: i, total: samples.length })
    if (!tokens || tokens.length > info.context) {
      throw new LowbitError('context', `Samples are longer than the context of ${info.context}`, {
        place,
        remedy: `use a length of at most ${info.context}`,
      })
    }
    // A copy, because a binding in a worker takes its arguments away.
    const { sums } = await binding.score(handle, 0, tokens.slice())
    const { positions, nll }: { positions: number; nll: number } = JSON.parse(sums)
    values.push(Math.exp(nll / positions))
  }
  report({ stage: 'evaluate', done: samples.length, total: samples.length })
  return values
}
