/** Turns work done into seconds to go. */
import type { Progress, Watching } from './watching.ts'

/** How far a step is, without the clock. */
export interface Work {
  readonly stage: string
  readonly layer?: number | null
  readonly done: number
  readonly total: number
  /** Where it is done, if a GPU takes part. */
  readonly device?: 'gpu' | null
  /** Mean relative error of the layers finished last. */
  readonly loss?: number
}

/** Reports work to a caller, with the clock added. */
export type Meter = (work: Work) => void

/** Time that must pass before a forecast is worth showing. */
const FORECAST_SECONDS_MIN = 0.5

/** A meter for one call; what an earlier run had done does not make this one look fast. */
export function meter(watching: Watching): Meter {
  const { onProgress } = watching
  if (!onProgress) return () => undefined
  const begun = performance.now()
  let first: { done: number; seconds: number; key: string } | undefined
  return ({ stage, layer, device, done, total, loss }) => {
    const seconds = (performance.now() - begun) / 1000
    // Work that is counted to another total is another count.
    const key = `${total}`
    if (first?.key !== key) first = { done, seconds, key }
    const eta = forecast(done - first.done, total - done, seconds - first.seconds)
    onProgress(progress({ stage, done, total, seconds }, { layer, device, eta, loss }))
  }
}

function forecast(done: number, rest: number, seconds: number): number | undefined {
  if (rest <= 0) return 0
  return done > 0 && seconds >= FORECAST_SECONDS_MIN ? (seconds * rest) / done : undefined
}

/** What is not always known. */
interface Sometimes {
  readonly layer: number | null | undefined
  readonly device: 'gpu' | null | undefined
  readonly eta: number | undefined
  readonly loss: number | undefined
}

function progress(base: Progress, { layer, device, eta, loss }: Sometimes): Progress {
  return {
    ...base,
    ...(layer === undefined || layer === null ? {} : { layer }),
    ...(device === undefined || device === null ? {} : { device }),
    ...(eta === undefined ? {} : { eta }),
    ...(loss === undefined ? {} : { loss }),
  }
}
