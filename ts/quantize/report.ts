/** What the core says about a quantization, and what `quantize` returns. */
import type { CoreOptions } from '../recipe/core.ts'
import type { Compared } from './compare.ts'
import type { Loads } from './engines.ts'
import type { StageMemory } from './gauge.ts'
import type { Survey } from './survey.ts'

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
  /** Two linears that engines join into one matrix and that differ; null when there are none. */
  readonly torn?: string | null
  readonly outputs: readonly { readonly file: string; readonly bytes: number }[]
  /** Over the layers that are quantized. */
  readonly bitsPerWeight: number
  readonly memoryPeakBytes: number
  /** Memory of the GPU, where one calibrates; 0 otherwise. */
  readonly deviceMemoryBytes?: number
  readonly scratchBytes: number
  readonly outputBytes: number
  readonly warnings: readonly string[]
  /** Where weights change before they are rounded, in order. */
  readonly transforms?: readonly TransformPlace[]
  /** `sensitivity` when schemes are chosen first. */
  readonly kind?: 'quantize' | 'sensitivity'
  readonly needsCalibration?: boolean
  /** Where products and second moments of calibration are computed; the rest is the CPU's. */
  readonly device?: 'cpu' | 'gpu'
  /** The GPU, if that is where. */
  readonly adapter?: Adapter | null
  readonly fingerprint?: string
  /** Work in units of 2²⁰ multiply-adds. */
  readonly workUnits?: number
  /** Seconds that it will take about, here. */
  readonly seconds?: number
  /** Every option that decides the bytes, by its value. */
  readonly options?: CoreOptions
  /** Over all of the model's weights. */
  readonly modelBitsPerWeight?: number
  /** Numbers of devices that it can be cut over. */
  readonly tensorParallel: readonly Parallel[]
}

/** A GPU that calibrates. */
export interface Adapter {
  readonly name: string
  /** `vulkan`, `metal` or `dx12`. */
  readonly backend: string
  /** The driver and its version, where it says. */
  readonly driver: string
  /** Whether it is a program that runs on the CPU. */
  readonly software: boolean
}

/** A plan as the core gives it, with the texts to write. */
export interface CorePlan extends Plan {
  readonly config: string
  readonly index?: string | null
}

/** Where a transform changes weights. */
export interface TransformPlace {
  readonly kind: string
  /** Block, and the module whose outputs are divided; absent for the whole model. */
  readonly block?: number
  readonly producer?: string | null
  readonly consumers?: readonly string[]
}

/** Whether the model can be cut over a number of devices, as engines cut it. */
export interface Parallel {
  readonly ranks: number
  /** Why not; absent when every part can be cut. */
  readonly why?: string
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
  /** Share of weights that pruning made zero. */
  readonly sparsity?: number
  /** Largest magnitude of an input on the calibration text. */
  readonly inputMax?: number
  /** Share of its block's time. */
  readonly seconds?: number
}

/** Scales of the KV cache. */
export interface CacheReport {
  readonly scheme: string
  /** Scales of keys and of values, one for each or one for each head. */
  readonly blocks: readonly {
    readonly block: number
    readonly keys: readonly number[]
    readonly values: readonly number[]
  }[]
}

/** A job's own report. */
export interface CoreReport {
  readonly layers?: readonly LayerReport[]
  readonly files?: readonly WrittenFile[]
  readonly transforms?: readonly TransformReport[]
  readonly kvCache?: CacheReport | null
  readonly warnings?: readonly string[]
  /** config.json, where what happened changes it. */
  readonly config?: string
}

/** One place where a transform changed weights. */
export interface TransformReport {
  readonly kind: string
  readonly block: number
  readonly producer: string
  readonly consumers?: readonly string[]
  /** AWQ's ratio or SmoothQuant's strength; absent where scales stayed 1. */
  readonly ratio?: number
  /** Estimated error of outputs before and after, relative to the outputs. */
  readonly lossBefore: number
  readonly lossAfter: number
  /** Why scales stayed 1, or are there although the estimate speaks against them. */
  readonly flagged?: string
}

/** What `quantize` returns; times are only here, never in a file. */
export interface QuantizeReport {
  /** The source, and where the result is. */
  readonly model: string
  readonly out: string
  /** Whether nothing was written. */
  readonly dryRun: boolean
  /** Name of the recipe; absent where options alone decide. */
  readonly recipe?: string
  readonly method: string
  readonly scheme: string
  readonly format: string
  /** Where products and second moments of calibration were computed; `plan.adapter` is the GPU. */
  readonly device: 'cpu' | 'gpu'
  /** Calibration set; null for a method that needs none. */
  readonly calibration: {
    readonly samples: number
    readonly length: number
    readonly text: string
  } | null
  readonly plan: Plan
  /** Which engines load the result. */
  readonly engines: readonly Loads[]
  /** Numbers of ranks that it can be cut for. */
  readonly tensorParallel: readonly Parallel[]
  /** How schemes were chosen, where a budget asked for that. */
  readonly survey?: Survey
  readonly layers: readonly LayerReport[]
  readonly transforms: readonly TransformReport[]
  /** Scales of the KV cache, where some were asked for. */
  readonly kvCache?: CacheReport
  readonly bitsPerWeight: number
  /** Bytes of the tensors' files, before and after. */
  readonly sourceBytes: number
  readonly bytes: number
  /** Every file written. */
  readonly files: readonly WrittenFile[]
  /** Whether an unfinished run was gone on with. */
  readonly resumed: boolean
  readonly seconds: number
  /** Text from the same prompts, before and after. */
  readonly texts: readonly Compared[]
  /** Most memory of the process in each stage. */
  readonly memory: readonly StageMemory[]
  /** What was assumed, and what the reader should know. */
  readonly notes: readonly string[]
}

/** One file of the output. */
export interface WrittenFile {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}
