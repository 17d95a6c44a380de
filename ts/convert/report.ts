/** What the core says about a conversion, and what `convert` returns. */
import type { StageMemory } from '../quantize/gauge.ts'
import type { Loads } from '../quantize/engines.ts'
import type { WrittenFile } from '../quantize/report.ts'

/** What becomes of a layer's values. */
export type How = 'exact' | 'if it fits' | 'rounded' | 'merged'

/** A layer before a tensor is read. */
export interface PlannedModule {
  readonly name: string
  readonly rows: number
  readonly cols: number
  /** How it is stored, and how it will be. */
  readonly from: string
  readonly scheme: string
  /** `if it fits`: only the data tells. */
  readonly how: How
  /** Why it is not exact, or what that depends on. */
  readonly why: string
}

/** A layer that was converted. */
export interface ConvertedModule extends Omit<PlannedModule, 'why'> {
  readonly why?: string
  /** √(Σ (w − q)² / Σ w²) against what the source stood for. */
  readonly relativeError: number
}

/** What is decided before a tensor is read. */
export interface ConvertPlan {
  readonly layers: readonly PlannedModule[]
  /** Linear layers that are floats. */
  readonly ignored: readonly string[]
  /** Two linears that engines join into one matrix and that differ; null when there are none. */
  readonly torn: string | null
  readonly outputs: readonly { readonly file: string; readonly bytes: number }[]
  /** Over the quantized layers; null when there are none. */
  readonly bitsPerWeight: number | null
  readonly memoryPeakBytes: number
  readonly scratchBytes: number
  readonly outputBytes: number
  readonly warnings: readonly string[]
  readonly fingerprint: string
}

/** A plan as the core gives it, with the texts to write. */
export interface CoreConvertPlan extends ConvertPlan {
  /** config.json; null for a format that keeps its own metadata. */
  readonly config: string | null
  readonly index?: string | null
}

/** The job's own report. */
export interface CoreConvertReport {
  readonly layers: readonly ConvertedModule[]
  readonly exact: number
  readonly rounded: number
  readonly merged: number
  readonly files: readonly WrittenFile[]
  readonly warnings: readonly string[]
}

/** What `convert` returns; times are only here, never in a file. */
export interface ConvertReport {
  /** The source, where the result is, and the adapter. */
  readonly model: string
  readonly out: string
  readonly lora?: string
  /** Whether nothing was written. */
  readonly dryRun: boolean
  readonly format: string
  readonly plan: ConvertPlan
  /** Layers that changed their form; every other tensor is as it was. */
  readonly layers: readonly ConvertedModule[]
  /** How many of them kept every value, were rounded, or had an adapter merged into them. */
  readonly exact: number
  readonly rounded: number
  readonly merged: number
  /** Which engines load the result. */
  readonly engines: readonly Loads[]
  readonly bitsPerWeight: number | null
  /** Bytes of the tensors' files, before and after. */
  readonly sourceBytes: number
  readonly bytes: number
  /** Every file written. */
  readonly files: readonly WrittenFile[]
  /** Whether an unfinished run was gone on with. */
  readonly resumed: boolean
  readonly seconds: number
  /** Most memory of the process in each stage. */
  readonly memory: readonly StageMemory[]
  /** What the reader should know. */
  readonly notes: readonly string[]
}
