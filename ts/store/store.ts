/**
 * Where files come from and go to. A folder, a web server, an object store and a browser's own
 * file system look the same from here; none of them needs a rename, because committing a file is
 * what makes it appear.
 */
import { LowbitError, quote } from '../error.ts'

/** A run of bytes. */
export interface Range {
  /** First byte. */
  readonly offset: number
  /** How many bytes. */
  readonly length: number
}

/** A set of named files; names are relative and use `/`. */
export interface Store {
  /** What a message calls it: a folder or an address. */
  readonly place: string
  /** Names of the files that are complete, sorted. */
  list(): Promise<readonly string[]>
  /** Bytes of a file; `not-found` when there is none. */
  size(name: string): Promise<number>
  /** Changes whenever the file does: length and time, or a server's ETag. */
  identity(name: string): Promise<string>
  /** The whole file, or exactly the range; `truncated` when it ends before, `file-changed`. */
  read(name: string, range?: Range): Promise<Uint8Array>
  /** Starts a file of `bytes`, or goes on with one that an earlier run left unfinished. */
  begin(name: string, bytes: number): Promise<Writing>
  /** Deletes a file, finished or not; absent files are fine. */
  remove(name: string): Promise<void>
  /** Bytes that can still be written; Infinity when nobody knows. */
  free(): Promise<number>
  /** Claims the store for one process; `locked` when another has it. */
  lock(): Promise<Release>
}

/** Gives a lock back. */
export type Release = () => Promise<void>

/** A file that has begun and is invisible until it is committed. */
export interface Writing {
  /** Writes all of `data` at `offset`; once it resolves, `data` is the caller's again. */
  write(offset: number, data: Uint8Array): Promise<void>
  /** Reads back what was written. */
  read(range: Range): Promise<Uint8Array>
  /** Returns when everything written so far survives a power cut. */
  flush(): Promise<void>
  /** Makes the file appear, whole; `truncated` when its length is not the one announced. */
  commit(): Promise<void>
  /** Closes it unfinished, so that a later `begin` can go on. */
  suspend(): Promise<void>
  /** Closes and deletes it. */
  abort(): Promise<void>
}

/** A store that can be told to trust a name less: one that a file, not the user, spelled. */
export interface GuardedStore extends Store {
  /** Refuses, with `path-escape`, a name that leads out of the folder through a link. */
  guard(name: string): Promise<void>
}

/** Whether a store checks links, as a file system must. */
export function isGuarded(store: Store): store is GuardedStore {
  return 'guard' in store
}

/** Refuses a name that is not a plain relative path below the store. */
export function checkName(name: string): void {
  if (name.length === 0 || name.length > 1024) {
    throw new LowbitError('path-escape', `File name of ${name.length} characters`)
  }
  const parts = name.split('/')
  const odd = parts.some((part) => part === '' || part === '.' || part === '..')
  if (odd || name.includes('\\') || name.includes('\0') || /^[a-z]+:/i.test(name)) {
    throw new LowbitError('path-escape', `File name ${quote(name)} leads out of the folder`)
  }
}

/** Checks a range against a file's length before anything is allocated for it. */
export function checkRange(range: Range, bytes: number, place: string): void {
  const end = range.offset + range.length
  if (range.offset >= 0 && range.length >= 0 && end <= bytes) return
  throw new LowbitError('truncated', `Wanted bytes ${range.offset} to ${end} of ${bytes}`, {
    place,
  })
}

/** Reads a text file that may be absent. */
export async function readOptional(
  store: Store,
  name: string,
  limit: number,
): Promise<Uint8Array | undefined> {
  try {
    return await readLimited(store, name, limit)
  } catch (error) {
    if (error instanceof LowbitError && error.code === 'not-found') return undefined
    throw error
  }
}

/** Reads a whole small file; one longer than `limit` is refused before it is read. */
export async function readLimited(store: Store, name: string, limit: number): Promise<Uint8Array> {
  const bytes = await store.size(name)
  if (bytes > limit) {
    throw new LowbitError('unsupported', `${bytes} bytes are more than the limit of ${limit}`, {
      place: `${store.place}/${name}`,
    })
  }
  return store.read(name, { offset: 0, length: bytes })
}
