/**
 * The worker of a page: holds the wasm module and answers calls, so that the page never waits.
 *
 * The first message says where the module is; every later one is a call.
 */
import type { Binding } from './binding.ts'
import { wasmBinding } from './wasm.ts'

/** The first message. */
export interface Start {
  /** Address of `lowbit_bg.wasm`; beside the script otherwise. */
  readonly wasmUrl?: string | undefined
}

/** One call of the binding. */
export interface Request {
  readonly id: number
  readonly name: keyof Binding
  readonly args: readonly unknown[]
}

/** What came of a call. */
export type Response =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: Thrown }

/** An error as it crosses; `fatal` when the module trapped and cannot go on. */
export interface Thrown {
  readonly message: string
  readonly code?: string
  readonly fatal: boolean
}

/** The part of a worker's global scope that is used here. */
interface Scope {
  addEventListener(type: 'message', heard: (event: MessageEvent<Start | Request>) => void): void
  postMessage(message: Response, transfer: readonly Transferable[]): void
}

let binding: Promise<Binding> | undefined

/** Starts answering; what a page's worker does on its own. */
function serve(scope: Scope): void {
  scope.addEventListener('message', ({ data }) => {
    if ('id' in data) {
      void answer(scope, data)
    } else {
      binding = wasmBinding(data.wasmUrl)
      // The first call reports why the module does not load.
      binding.catch(() => undefined)
    }
  })
}

async function answer(scope: Scope, { id, name, args }: Request): Promise<void> {
  try {
    const target = await binding
    if (!target) throw new Error('the worker was not started')
    const value: unknown = await Reflect.apply(target[name], target, args)
    scope.postMessage({ id, value }, transferables(value))
  } catch (error) {
    scope.postMessage({ id, error: thrown(error) }, [])
  }
}

function thrown(error: unknown): Thrown {
  const message = error instanceof Error ? error.message : String(error)
  if (typeof error === 'object' && error !== null && 'code' in error) {
    return { message, code: String(error.code), fatal: false }
  }
  return { message, fatal: true }
}

/** Buffers that a result owns whole: they move instead of being copied. */
export function transferables(value: unknown): Transferable[] {
  const found = new Set<ArrayBuffer>()
  collect(value, found)
  return [...found]
}

function collect(value: unknown, found: Set<ArrayBuffer>): void {
  if (ArrayBuffer.isView(value)) {
    const { buffer, byteLength } = value
    if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) found.add(buffer)
  } else if (Array.isArray(value)) {
    for (const item of value) collect(item, found)
  } else if (typeof value === 'object' && value !== null) {
    for (const item of Object.values(value)) collect(item, found)
  }
}

/** Whether a global scope is that of a dedicated worker. */
function isScope(scope: unknown): scope is Scope {
  return typeof scope === 'object' && scope !== null && 'DedicatedWorkerGlobalScope' in scope
}

const scope: unknown = globalThis
if (isScope(scope)) serve(scope)
