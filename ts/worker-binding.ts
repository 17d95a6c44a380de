/** A binding that lives in a worker of the page. */
import type { Binding } from './binding.ts'
import { bindingOf, type Call } from './calls.ts'
import { LowbitError } from './error.ts'
import type { Request, Response, Start, Thrown } from './worker.ts'

/** Where a page finds the parts that are not JavaScript. */
export interface WorkerOptions {
  /** Address of `lowbit_bg.wasm`, for bundlers that do not move it along. */
  readonly wasmUrl?: string | URL
  /** Makes the worker, for bundlers and policies that need it made otherwise. */
  readonly createWorker?: () => Worker
}

/** A binding in a worker, and the way to end it. */
export interface WorkerBinding {
  readonly binding: Binding
  /** Ends the worker with everything that it holds; later calls are refused. */
  terminate(): void
}

interface Waiting {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}

/** Starts the worker at the first call. */
export function workerBinding(options: WorkerOptions = {}): WorkerBinding {
  const link = new Link(options)
  const call: Call = (name, args): ReturnType<Binding[typeof name]> =>
    // The worker answers each call with what the function of that name returns.
    link.call(name, args) as ReturnType<Binding[typeof name]>
  return { binding: bindingOf(call), terminate: () => link.end(ended('The worker was terminated')) }
}

class Link {
  readonly #options: WorkerOptions
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #ended: LowbitError | undefined
  #next = 1

  constructor(options: WorkerOptions) {
    this.#options = options
  }

  call(name: keyof Binding, args: readonly unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#ended) throw this.#ended
      const worker = (this.#worker ??= this.#start())
      const id = this.#next++
      this.#waiting.set(id, { resolve, reject })
      worker.postMessage({ id, name, args } satisfies Request, owned(name, args))
    })
  }

  /** Ends the worker; calls under way and later ones fail with `reason`. */
  end(reason: LowbitError): void {
    this.#ended ??= reason
    this.#worker?.terminate()
    this.#worker = undefined
    for (const { reject } of this.#waiting.values()) reject(this.#ended)
    this.#waiting.clear()
  }

  #start(): Worker {
    const { createWorker, wasmUrl } = this.#options
    // Written out in one piece, because that is the form bundlers look for.
    const worker = createWorker
      ? createWorker()
      : new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'lowbit' })
    worker.onmessage = (event: MessageEvent<Response>) => this.#settle(event.data)
    worker.onerror = (event) => {
      const why = event.message || 'its script does not load'
      this.end(ended(`The worker failed: ${why}`))
    }
    // A worker resolves addresses against its own script; callers mean the page.
    const url = wasmUrl === undefined ? undefined : new URL(wasmUrl, globalThis.location?.href).href
    worker.postMessage({ wasmUrl: url } satisfies Start)
    return worker
  }

  #settle(response: Response): void {
    const waiting = this.#waiting.get(response.id)
    this.#waiting.delete(response.id)
    if ('value' in response) return waiting?.resolve(response.value)
    const error = errorOf(response.error)
    waiting?.reject(error)
    if (response.error.fatal) this.end(ended(`The worker stopped: ${response.error.message}`))
  }
}

/** Buffers of the answers to a job or loader are handed over, as the contract says. */
function owned(name: keyof Binding, args: readonly unknown[]): Transferable[] {
  const answer = name === 'jobPoll' || name === 'modelPoll' ? args[1] : undefined
  if (!Array.isArray(answer)) return []
  const buffers = new Set<ArrayBuffer>()
  for (const bytes of answer) {
    if (!(bytes instanceof Uint8Array) || !(bytes.buffer instanceof ArrayBuffer)) continue
    if (bytes.byteLength === bytes.buffer.byteLength) buffers.add(bytes.buffer)
  }
  return [...buffers]
}

function errorOf({ message, code }: Thrown): Error {
  return code === undefined ? ended(message) : Object.assign(new Error(message), { code })
}

function ended(what: string): LowbitError {
  return new LowbitError('internal', what, {
    remedy:
      'load the page again; if it says so again, check wasmUrl and the content security policy',
  })
}
