/** lowbit in a page: everything runs in a worker, which starts at the first call. */
import { createApi, type Lowbit } from './api.ts'
import { browserHost } from './host.browser.ts'
import type { Hub } from './hub/access.ts'
import { workerBinding, type WorkerOptions } from './worker-binding.ts'

export * from './surface.ts'
export type { WorkerOptions } from './worker-binding.ts'

/** The functions of this package on a worker of their own. */
export interface BrowserLowbit extends Lowbit {
  /** Ends the worker with every model that it holds. */
  terminate(): void
}

/** Options of `createLowbit`. */
export interface BrowserOptions extends WorkerOptions {
  /** Address of the hub that `owner/name` is read from, and a token for what is not public. */
  readonly hub?: Hub
}

/**
 * Functions on a worker of their own, for bundlers that need to be told where the parts are, and
 * for pages that want the memory back.
 *
 * @example
 * const lowbit = createLowbit({ wasmUrl: '/assets/lowbit_bg.wasm' })
 * const model = await lowbit.load('/models/novels-4m-w4')
 */
export function createLowbit(options: BrowserOptions = {}): BrowserLowbit {
  const { binding, terminate } = workerBinding(options)
  return { ...createApi(binding, browserHost(options.hub)), terminate }
}

const lowbit: Lowbit = createLowbit()

/** Makes a checkpoint smaller; see `Lowbit.quantize`. */
export const quantize: Lowbit['quantize'] = lowbit.quantize
/** Takes a checkpoint from one format to another; see `Lowbit.convert`. */
export const convert: Lowbit['convert'] = lowbit.convert
/** Collects or merges importance matrices; see `Lowbit.imatrix`. */
export const imatrix: Lowbit['imatrix'] = lowbit.imatrix
/** Makes a calibration set; see `Lowbit.calibrate`. */
export const calibrate: Lowbit['calibrate'] = lowbit.calibrate
/** Loads a checkpoint to run it; see `Lowbit.load`. */
export const load: Lowbit['load'] = lowbit.load
/** Describes a checkpoint from its headers; see `Lowbit.inspect`. */
export const inspect: Lowbit['inspect'] = lowbit.inspect
/** Perplexity and divergence on a text; see `Lowbit.evaluate`. */
export const evaluate: Lowbit['evaluate'] = lowbit.evaluate
/** What this build can do; see `Lowbit.catalog`. */
export const catalog: Lowbit['catalog'] = lowbit.catalog
