/** lowbit in Node: everything runs in the native module, which is loaded at the first call. */
import { createApi, type Lowbit } from './api.ts'
import { lazyBinding } from './calls.ts'
import { nodeHost } from './host.node.ts'
import { nativeBinding } from './native.ts'

export * from './surface.ts'

const lowbit: Lowbit = createApi(lazyBinding(nativeBinding), nodeHost)

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
