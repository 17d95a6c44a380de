/** A file system whose n-th call fails, for sweeps over every n. */
import * as real from 'node:fs/promises'
import type { FileSystem } from '../ts/store/fs-write.ts'

/** Calls so far, and which of them fails. */
export interface Fault {
  count: number
  /** The call that fails, from 1; 0 for none. */
  at: number
  /** The system's name of the error. */
  readonly code: string
}

/** What counts as a call. */
const CALLS = new Set([
  'open',
  'stat',
  'lstat',
  'readdir',
  'rename',
  'mkdir',
  'write',
  'read',
  'sync',
])

/** The real file system with one call that fails. */
export function faultyFs(fault: Fault): FileSystem {
  return new Proxy(real, {
    get(target, key, receiver) {
      const member: unknown = Reflect.get(target, key, receiver)
      if (typeof member !== 'function' || !CALLS.has(String(key))) return member
      return async (...args: unknown[]) => {
        strike(fault)
        const result: unknown = await Reflect.apply(member, target, args)
        return key === 'open' ? faultyHandle(result, fault) : result
      }
    },
  })
}

function faultyHandle(handle: unknown, fault: Fault): unknown {
  if (typeof handle !== 'object' || handle === null) return handle
  return new Proxy(handle, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        if (CALLS.has(String(key))) strike(fault)
        return Reflect.apply(member, target, args) as unknown
      }
    },
  })
}

function strike(fault: Fault): void {
  fault.count++
  if (fault.count === fault.at) throw Object.assign(new Error(fault.code), { code: fault.code })
}
