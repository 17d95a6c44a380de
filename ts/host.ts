/** What differs between Node and a browser, handed in so that everything else is the same. */
import type { DataFile } from './calibration/source.ts'
import type { Watching } from './watching.ts'
import type { Release, Store } from './store/store.ts'

/** A place where a model is, as a caller named it. */
export interface Source {
  /** The folder. */
  readonly store: Store
  /** The one file that was named, if it was not the folder. */
  readonly file?: string
}

/** A place where a model appears at once, when all of it is written and checked. */
export interface Output {
  /** The final name. */
  readonly place: string
  /** The model's files while nobody else sees them. */
  readonly store: Store
  /** Files that are needed only while the work goes on. */
  readonly scratch: Store
  /** What is known to be durable. */
  readonly journal: Journal
  /** Forgets an unfinished run. */
  clear(): Promise<void>
  /** Makes the model appear under its final name and deletes everything else. */
  publish(): Promise<void>
  /** Gives the place back; an unfinished run stays, to be resumed. */
  close(): Promise<void>
}

/** Lines that survive a crash, each whole or not there. */
export interface Journal {
  /** The lines of an unfinished run; a torn last line is left out. */
  lines(): Promise<readonly string[]>
  /** Adds a line; it is durable on return. */
  append(line: string): Promise<void>
}

/** Digest of bytes that come in pieces. */
export interface Hash {
  /** Adds bytes. */
  update(bytes: Uint8Array): void
  /** The digest in hexadecimal. */
  hex(): string
}

/** How an output is opened. */
export interface OutputOptions {
  /** Replace a finished model under that name. */
  readonly force: boolean
  /** Places that are read, and so must not be written. */
  readonly inputs: readonly string[]
}

/** How a model is going to be read. */
export interface Reading extends Watching {
  /** Only headers: a model on a hub is then read where it is. */
  readonly headers?: boolean | undefined
}

/** Texts that ship with the package. */
export type BundledText = 'calibration.txt' | 'eval.txt'

/** Runs something; throws when it takes longer than so many milliseconds. */
export type Within = <T>(milliseconds: number, run: () => T) => T

/** The world around the facade. */
export interface Host {
  /** Threads to compute with, unless the caller says otherwise. */
  readonly threads: number
  /** Finds a model by folder, file, address or name on the hub, which is fetched if need be. */
  source(place: string, reading?: Reading): Promise<Source>
  /** Opens a place to write a model to. */
  output(place: string, options: OutputOptions): Promise<Output>
  /** Reads a text that the caller named. */
  readText(place: string): Promise<Uint8Array>
  /** Files of calibration text under a path, an address, a data set's name or `-`. */
  data(place: string): Promise<readonly DataFile[]>
  /** Opens the folder of a single file that is to be written. */
  folder(place: string): { readonly store: Store; readonly file: string }
  /** Reads a text that ships with the package. */
  bundled(name: BundledText): Promise<Uint8Array>
  /** Starts a SHA-256 digest. */
  sha256(): Hash
  /** Runs something to its end, or throws when its time is over; where a thread can do that. */
  readonly within?: Within
  /** Bytes of memory of the process, where they can be known. */
  readonly memory?: () => number
}

/** An output over a store that keeps unfinished files to itself; nothing to resume. */
export async function storeOutput(store: Store, scratch: Store): Promise<Output> {
  const release: Release = await store.lock()
  const lines: string[] = []
  return {
    place: store.place,
    store,
    scratch,
    journal: {
      lines: async () => lines,
      append: async (line) => {
        lines.push(line)
      },
    },
    clear: async () => {
      lines.length = 0
    },
    publish: async () => undefined,
    close: release,
  }
}
