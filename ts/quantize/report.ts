/** What the core says about a quantization, and what `quantize` returns. */

/** What is decided before a tensor is read. */
export interface Plan {
  readonly layers: readonly {
    readonly name: string
    readonly rows: number
    readonly cols: number
    readonly scheme: string
    readonly method: string
  }[]
  /** Linear layers that stay as they are. */
  readonly ignored: readonly string[]
  readonly outputs: readonly { readonly file: string; readonly bytes: number }[]
  /** Over the layers that are quantized. */
  readonly bitsPerWeight: number
  readonly memoryPeakBytes: number
  readonly scratchBytes: number
  readonly outputBytes: number
  readonly warnings: readonly string[]
}

/** A plan as the core gives it, with the texts to write. */
export interface CorePlan extends Plan {
  readonly config: string
  readonly index?: string | null
}

/** One quantized layer. */
export interface LayerReport {
  readonly name: string
  /** The rounder that made it. */
  readonly method: string
  readonly scheme: string
  readonly rows: number
  readonly cols: number
  /** Mean of (w − q)². */
  readonly mse: number
  /** √(Σ (w − q)² / Σ w²). */
  readonly relativeError: number
  /** Mean over outputs of (w − q)ᵀ·H·(w − q), where a Hessian was used. */
  readonly hessianError?: number
  /** Damping that was needed, relative to the mean of the Hessian's diagonal. */
  readonly damp?: number
  /** Inputs that were zero for every token. */
  readonly deadColumns?: number
  /** Why a simpler method was used than the one asked for. */
  readonly fallback?: string | null
  /** Share of its block's time. */
  readonly seconds?: number
}

/** A job's own report. */
export interface CoreReport {
  readonly layers?: readonly LayerReport[]
  readonly files?: readonly WrittenFile[]
}

/** What `quantize` returns; times are only here, never in a file. */
export interface QuantizeReport {
  /** The source, and where the result is. */
  readonly model: string
  readonly out: string
  /** Whether nothing was written. */
  readonly dryRun: boolean
  readonly method: string
  readonly scheme: string
  readonly format: string
  /** Calibration set; null for a method that needs none. */
  readonly calibration: {
    readonly samples: number
    readonly length: number
    readonly text: string
  } | null
  readonly plan: Plan
  readonly layers: readonly LayerReport[]
  readonly bitsPerWeight: number
  /** Bytes of the tensors' files, before and after. */
  readonly sourceBytes: number
  readonly bytes: number
  /** Every file written. */
  readonly files: readonly WrittenFile[]
  /** Whether an unfinished run was gone on with. */
  readonly resumed: boolean
  readonly seconds: number
  /** What was assumed, and what the reader should know. */
  readonly notes: readonly string[]
}

/** One file of the output. */
export interface WrittenFile {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}
