/** A binding that lives in a worker of the page. */
import type { Binding } from './binding.ts'
import { bindingOf, type Result } from './calls.ts'
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
  readonly terminate: () => void
}

/** A promise of whatever the called function returns. */
interface Waiting {
  resolve(value: unknown): void
  reject(error: unknown): void
}

/** Starts the worker at the first call. */
export function workerBinding(options: WorkerOptions = {}): WorkerBinding {
  const link = new Link(options)
  return {
    binding: bindingOf((name, args) => link.call(name, args)),
    terminate: () => link.end(ended('The worker was terminated')),
  }
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

  call<Name extends keyof Binding>(
    name: Name,
    args: Parameters<Binding[Name]>,
  ): Promise<Result<Name>> {
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
    for (const waiting of this.#waiting.values()) waiting.reject(this.#ended)
    this.#waiting.clear()
  }

  #start(): Worker {
    const { createWorker, wasmUrl } = this.#options
    // Written out in one piece, because that is the form bundlers look for.
    const worker = createWorker
      ? createWorker()
      : new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'lowbit' })
    worker.addEventListener('message', (event: MessageEvent<Response>) => this.#settle(event.data))
    worker.addEventListener('error', ({ message }) => {
      this.end(ended(`The worker failed: ${message || 'its script does not load'}`))
    })
    // A worker resolves addresses against its own script; callers mean the page.
    const url = wasmUrl === undefined ? undefined : new URL(wasmUrl, globalThis.location?.href).href
    worker.postMessage({ wasmUrl: url } satisfies Start, [])
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

/** Buffers of a job's or loader's polls are handed over, as the contract says. */
function owned(name: keyof Binding, args: readonly unknown[]): Transferable[] {
  if (name !== 'jobPoll' && name !== 'modelPoll') return []
  const buffers = new Set<ArrayBuffer>()
  for (const bytes of args.slice(1).flat()) {
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
