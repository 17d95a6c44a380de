/** Where calibration text comes from: every kind of source becomes a list of files of bytes. */
import { LowbitError, quote } from '../error.ts'
import type { Host } from '../host.ts'
import type { Range, Store } from '../store/store.ts'

/**
 * A source of calibration text: a path, an address, a data set by name (`org/name:config:split`),
 * `-` for standard input, a store whose files are read in the order of their names, or what is
 * already in memory.
 */
export type CalibrationSource =
  | string
  | Store
  | { readonly name: string; readonly bytes: Uint8Array }
  | { readonly text: string }

/** One file of a source. */
export interface DataFile {
  /** How samples and the manifest name it: without the folders of this machine. */
  readonly name: string
  /** How messages name it. */
  readonly place: string
  /** Its bytes in order, read once. */
  pieces(): AsyncIterable<Uint8Array>
  /** Length and ranges of it; absent where bytes come once and in order. */
  readonly ranges?: Ranges
  /** Most rows that are taken from it, where the source says so. */
  readonly rows?: number
  /** The store that it is in, where it is in one. */
  readonly origin?: { readonly store: Store; readonly file: string }
  /** What a server calls this version of the file: a second download only for a digest is spared. */
  readonly version?: () => Promise<string>
}

/** A file that can be read from anywhere. */
export interface Ranges {
  readonly size: () => Promise<number>
  readonly read: (range: Range) => Promise<Uint8Array>
}

/** Bytes that are read at a time. */
const PIECE = 1 << 20

/** Endings of files that a folder is searched for; `.gz` may follow all but Parquet's. */
const READABLE = /\.(txt|text|md|html?|jsonl|ndjson|json)(\.gz)?$|\.parquet$/i

/** Endings of files that hold rows in a form that is not read, or no text at all. */
const UNREADABLE =
  /\.(csv|tsv|arrow|feather|zst|zip|xz|bz2|7z|tar|tgz|rar|pdf|docx?|epub|pkl|pickle|pt|pth|bin|safetensors|gguf|npy|npz)$/i

/** The sources of a call, given as one or many. */
export function sourceList(
  sources: CalibrationSource | readonly CalibrationSource[],
): readonly CalibrationSource[] {
  const list: readonly CalibrationSource[] = isList(sources) ? sources : [sources]
  if (list.every((source) => typeof source === 'string' || isSource(source))) return list
  throw new LowbitError('option', 'A source is no path, store, bytes or text', {
    remedy: 'give a text such as ./chats.jsonl, or { text }',
  })
}

/** `Array.isArray` does not tell a list that is readonly. */
function isList(
  sources: CalibrationSource | readonly CalibrationSource[],
): sources is readonly CalibrationSource[] {
  return Array.isArray(sources)
}

function isSource(source: Exclude<CalibrationSource, string>): boolean {
  if (typeof source !== 'object' || source === null) return false
  if ('bytes' in source) return source.bytes instanceof Uint8Array
  return 'text' in source ? typeof source.text === 'string' : 'list' in source
}

/** The files of all sources, in the order given; `not-found`, `unsupported` or `dataset`. */
export async function dataFiles(
  host: Host,
  sources: readonly CalibrationSource[],
): Promise<readonly DataFile[]> {
  if (sources.length === 0) throw new LowbitError('option', 'There is no source to read')
  const files: DataFile[] = []
  for (const source of sources) files.push(...(await filesOf(host, source)))
  for (const { place } of files) refuse(place)
  return files
}

async function filesOf(host: Host, source: CalibrationSource): Promise<readonly DataFile[]> {
  if (typeof source === 'string') {
    refuse(source)
    return host.data(source)
  }
  if ('bytes' in source) return [bytesFile(source.name, source.bytes)]
  if ('text' in source) return [bytesFile('a given text', new TextEncoder().encode(source.text))]
  return storeFiles(source, '')
}

/** The readable files of a store, each named below `folder`; `dataset` when there is none. */
export async function storeFiles(store: Store, folder: string): Promise<readonly DataFile[]> {
  const names = (await store.list()).filter(
    // What a set is described by is not a row of it.
    (name) => READABLE.test(name) && !name.endsWith('.manifest.json'),
  )
  if (names.length > 0) return names.map((name) => storeFile(store, name, folder + name))
  throw new LowbitError('dataset', 'The folder holds no file of text, JSONL or Parquet', {
    place: store.place,
  })
}

/** One file of a store. */
export function storeFile(store: Store, file: string, name: string = file): DataFile {
  const ranges = { size: () => store.size(file), read: (range: Range) => store.read(file, range) }
  const place = `${store.place}/${file}`
  return { name, place, pieces: () => rangePieces(ranges), ranges, origin: { store, file } }
}

/** A file of a server, whose version the server tells. */
export function remoteFile(store: Store, file: string, name: string, rows?: number): DataFile {
  return {
    ...storeFile(store, file, name),
    version: () => store.identity(file),
    ...(rows === undefined ? {} : { rows }),
  }
}

/** Bytes that come once, as those of standard input. */
export function streamFile(name: string, pieces: AsyncIterable<Uint8Array>): DataFile {
  return { name, place: name, pieces: () => pieces }
}

function bytesFile(name: string, bytes: Uint8Array): DataFile {
  const ranges: Ranges = {
    size: async () => bytes.length,
    read: async ({ offset, length }) => bytes.slice(offset, offset + length),
  }
  return { name, place: name, pieces: () => rangePieces(ranges), ranges }
}

/**
 * The whole of a file in pieces of a bounded size.
 * @yields each piece
 */
export async function* rangePieces({ size, read }: Ranges): AsyncGenerator<Uint8Array> {
  const bytes = await size()
  for (let offset = 0; offset < bytes; offset += PIECE) {
    yield read({ offset, length: Math.min(PIECE, bytes - offset) })
  }
}

/** A table's markup would be calibrated on as if it were text, and a pickle is never opened. */
function refuse(place: string): void {
  const ending = UNREADABLE.exec(place)
  if (!ending) return
  throw new LowbitError('unsupported', `Calibration text is not read from ${ending[0]} files`, {
    place,
    remedy: 'give plain text, JSONL or Parquet',
  })
}

/** Whether a name is a data set's: `org/name`, `org/name:config` or `org/name:config:split`. */
export function isDatasetName(place: string): boolean {
  if (READABLE.test(place) || UNREADABLE.test(place)) return false
  return /^[\w-][\w.-]*\/[\w-][\w.-]*(:[^:/\\]+){0,2}$/.test(place)
}

/** A place in a file, for a message. */
export function linePlace(file: DataFile, line: number, unit: string = 'line'): string {
  return `${quotePlace(file.place)} ${unit} ${line}`
}

function quotePlace(place: string): string {
  const quoted = quote(place)
  return quoted === `"${place}"` ? place : quoted
}
