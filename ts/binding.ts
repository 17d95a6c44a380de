/**
 * The whole contract with Rust. Options and results cross as JSON text, tensors and tokens as
 * typed arrays; nothing else crosses. Both bindings export exactly these functions, every one
 * asynchronous, so that a page can keep the binding in a worker.
 *
 * Failures reject with an `Error` whose `code` is one of the codes in `catalog().codes`.
 *
 * The buffers of an `answer` are handed over: a caller does not use them again, so that they can
 * move to a worker, or be given back at once. The `data` of a job lasts until its next poll.
 */
export interface Binding {
  /** JSON `Catalog`: version, host and the tables of methods, formats, architectures, codes. */
  catalog(): Promise<string>
  /** Parses a safetensors header. `head` holds the first bytes of the file, at least 8 + its length. */
  header(head: Uint8Array, fileBytes: number): Promise<string>
  /** Parses and checks `model.safetensors.index.json`. */
  index(text: Uint8Array): Promise<string>
  /**
   * Opens GGUF files as a checkpoint, as far as `data` goes: the first bytes of each file of
   * `{ files, values, floats }` and then those tensors. Asks for more, or ends with `done` and the
   * texts of the checkpoint's files; `Ask` of ts/gguf.ts.
   */
  ggufOpen(request: string, data: Uint8Array[]): Promise<Polled>
  /** Rows of a GGUF tensor as the checkpoint has them, by the request that `ggufOpen` gave. */
  ggufRows(request: string, stored: Uint8Array): Promise<Uint8Array>
  /**
   * The importance matrix of one sample, `{ model, datasets }` with its tokens as little-endian u32,
   * or files of them added up, `{ datasets, format }`; a file.
   */
  imatrix(request: string, data: Uint8Array[]): Promise<Uint8Array>
  /** How a checkpoint `{ config, tensors }` is quantized; JSON `Described` of ts/inspect.ts. */
  describe(request: string): Promise<string>
  /** Checks everything that can be checked before a tensor is read; JSON `Plan`. */
  plan(request: string): Promise<string>
  /** Opens a quantization job; `tokens` are the calibration samples one after another. */
  jobOpen(request: string, tokens: Uint32Array): Promise<number>
  /**
   * Answers the job's last ask and computes until its next one. What earlier polls gave to write and
   * nobody needs any more, `spent`, is handed back with it: its memory may go at once.
   */
  jobPoll(job: number, answer: Uint8Array[], spent?: Uint8Array[]): Promise<Polled>
  /** Opens a model for loading. */
  modelOpen(request: string): Promise<number>
  /** Answers the loader's last ask; ends with `{ "done": ModelInfo }`. */
  modelPoll(model: number, answer: Uint8Array[]): Promise<Polled>
  /** A sequence with its own cache and sampler on a loaded model. */
  sessionOpen(model: number, request: string): Promise<number>
  /** Appends tokens that `sessionNext` will prefill. */
  sessionPush(session: number, tokens: Uint32Array): Promise<void>
  /** One step: `{ "prefill": { done, total } }` or `{ "token": id }`. */
  sessionNext(session: number): Promise<string>
  /** Logits of every token, row-major `[tokens, vocabulary]`. */
  logits(model: number, tokens: Uint32Array): Promise<Float32Array>
  /**
   * Texts whose tokens lie one after another, as JSON `{ want, lengths, second?, pooling?,
   * normalize? }` says: `states` of every token, `vectors` or scores of `labels` of every text.
   */
  encode(model: number, request: string, tokens: Uint32Array): Promise<Float32Array>
  /** Scores one window; `reference` is 0 or another model. */
  score(model: number, reference: number, tokens: Uint32Array): Promise<Scored>
  /** Frees a job, model or session; unknown handles are ignored. */
  close(handle: number): Promise<void>
}

/** What a job or loader wants next: JSON `Ask` and the bytes that belong to it. */
export interface Polled {
  readonly ask: string
  readonly data: readonly Uint8Array[]
}

/** Sums over the shifted positions of one window, and KL(reference ‖ model) of each position. */
export interface Scored {
  /** JSON `{ positions, nll, referenceNll?, sameTop? }`. */
  readonly sums: string
  /** One value per position, in nats; empty without a reference. */
  readonly kl: Float32Array
}
