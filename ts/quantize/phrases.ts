/** How a plan is said in a few words, on screen and in model cards. */
import type { CoreOptions } from '../recipe/core.ts'
import type { Adapter, Parallel } from './report.ts'

/** `smoothquant, gptq w8a8`: what was done, in order. */
export function stepsText({
  transforms = [],
  prune,
  method,
  scheme,
  kvCache,
}: CoreOptions): string {
  const steps = transforms.map(({ kind }) => kind.toLowerCase())
  const pruning = prune ? [`${prune.method} ${prune.pattern ?? prune.sparsity ?? ''}`.trim()] : []
  const cache = (kvCache ?? undefined) === undefined ? [] : [`KV cache ${kvCache}`]
  return [...steps, ...pruning, `${method} ${scheme}`, ...cache].join(', ')
}

/** `gpu: name, backend, driver`: what bytes depend on, as the journal has it. */
export function adapterText({ name, backend, driver }: Adapter): string {
  return `gpu: ${[name, backend, driver].filter((part) => part !== '').join(', ')}`
}

/** `2` or `4 not: why`. */
export function parallelText({ ranks, why }: Parallel): string {
  return why === undefined ? `${ranks}` : `not ${ranks} (${why})`
}
