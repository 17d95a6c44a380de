/** How long calls are watched and stopped. */

/** How far a long call is. */
export interface Progress {
  /** What is being done: `read`, `tokenize`, `calibrate`, `quantize`, `check`, `evaluate`, … */
  readonly stage: string
  /** Decoder block, if the stage is in one. */
  readonly layer?: number
  /** Units of work done, and in all. */
  readonly done: number
  readonly total: number
  /** Seconds since the call began. */
  readonly seconds: number
  /** Seconds to go; absent until there is something to judge by. */
  readonly eta?: number
  /** Quantization: `gpu` in stages that a GPU takes part in. */
  readonly device?: 'gpu'
  /** Quantization: mean relative error of the layers finished last. */
  readonly loss?: number
}

/** What every long call takes. */
export interface Watching {
  /** Stops the call within one step; it then throws `aborted`. */
  readonly signal?: AbortSignal | undefined
  /** Called after every step. */
  readonly onProgress?: ((progress: Progress) => void) | undefined
}
