/** What a run takes: memory in each stage, time by block. */
import type { Meter } from '../progress.ts'
import type { CorePlan, LayerReport } from './report.ts'

/** Most memory that the process was seen to have in a stage. */
export interface StageMemory {
  readonly stage: string
  readonly rssBytes: number
}

/** A meter that looks at the process too. */
export interface Gauge {
  readonly report: Meter
  /** Stages in the order in which they began; empty where memory cannot be looked at. */
  memory(): readonly StageMemory[]
}

/** Wraps a meter; `rss` gives the bytes that the process has. */
export function gauge(report: Meter, rss: (() => number) | undefined): Gauge {
  const most = new Map<string, number>()
  return {
    report: (work) => {
      if (rss) most.set(work.stage, Math.max(most.get(work.stage) ?? 0, rss()))
      report(work)
    },
    memory: () => Array.from(most, ([stage, rssBytes]) => ({ stage, rssBytes })),
  }
}

/** A layer's seconds are its block's, shared out by weights: the core has no clock. */
export function withSeconds(
  layers: readonly LayerReport[],
  plan: CorePlan,
  seconds: ReadonlyMap<number, number>,
): readonly LayerReport[] {
  const weights = new Map(plan.layers.map(({ name, rows, cols }) => [name, rows * cols]))
  const inBlock = new Map<number, number>()
  for (const { name } of layers) {
    const block = blockOf(name)
    inBlock.set(block, (inBlock.get(block) ?? 0) + (weights.get(name) ?? 0))
  }
  return layers.map((layer) => {
    const block = blockOf(layer.name)
    const share = (weights.get(layer.name) ?? 0) / (inBlock.get(block) ?? 1)
    return { ...layer, seconds: (seconds.get(block) ?? 0) * share }
  })
}

function blockOf(name: string): number {
  return Number(/\.(\d+)\./.exec(name)?.[1] ?? -1)
}
