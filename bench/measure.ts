/** Timing of calls that take long enough to need no statistics beyond a median. */
import { Bench } from 'tinybench'
import type { Figure } from './main.ts'

/** What one call is, and how much it does. */
export interface Measured {
  readonly name: string
  readonly unit: string
  /** Calls to time, after one that warms up and checks the answer. */
  readonly runs: number
  /** Does the work and says how many units it was; throws when the answer is wrong. */
  readonly work: () => Promise<number>
}

/** Times it, prints one line and returns the figure. */
export async function measure({ name, unit, runs, work }: Measured): Promise<Figure> {
  const units = await work()
  const bench = new Bench({ iterations: runs, time: 0, warmup: false })
  bench.add(name, async () => void (await work()))
  const [task] = await bench.run()
  const result = task?.result
  if (!result || result.state !== 'completed') throw new Error(`${name} did not complete`)
  const seconds = result.latency.p50 / 1000
  const perSecond = units / seconds
  const speed = perSecond >= 1e6 ? `${(perSecond / 1e6).toFixed(2)} M` : perSecond.toFixed(1)
  console.log(`${name.padEnd(40)} ${`${speed} ${unit}/s`.padStart(22)}   ${seconds.toFixed(3)} s`)
  return { name, unit, perSecond, seconds, runs }
}
