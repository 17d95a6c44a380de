/** Files to documents: one row for each format, chosen by the ending of the name or by a look. */
import { concat, textOf } from '../bytes.ts'
import { errorFrom, LowbitError } from '../error.ts'
import type { Hash } from '../host.ts'
import { type Bad, linesOf, passagesOf } from './lines.ts'
import { parquetDocuments } from './parquet.ts'
import { type Document, type Row, rowError, rowOf } from './rows.ts'
import { type DataFile, linePlace } from './source.ts'

/** How sources are read. */
export interface Reading {
  /** Field of a row that is its text or messages; found by the row's shape otherwise. */
  readonly field?: string | undefined
  /** Most rows of each file. */
  readonly rows?: number | undefined
  /** Leave rows out that cannot be read, and count them. */
  readonly skipBad?: boolean | undefined
  /** Characters of a passage of plain text. */
  readonly passage: number
  /** Starts the digest of a file; without it nothing is digested. */
  readonly sha256?: (() => Hash) | undefined
  readonly onBytes?: ((bytes: number) => void) | undefined
}

/** What was read of a file. */
export interface FileFacts {
  readonly name: string
  readonly format: string
  /** Documents it gave, and rows that were left out because they could not be read. */
  documents: number
  skipped: number
  /** Whether it was read to its end; else the limit on rows was reached. */
  whole: boolean
  bytes?: number
  sha256?: string
  version?: string
}

/** Documents of a file, and what there is to say of it when they have been read. */
export interface Opened {
  readonly facts: FileFacts
  readonly documents: () => AsyncGenerator<Document>
}

/** What a format's reader works with. */
export interface Reader {
  readonly file: DataFile
  /** The bytes, unpacked. */
  readonly pieces: AsyncIterable<Uint8Array>
  readonly reading: Reading
  readonly bad: Bad
}

interface Format {
  readonly name: string
  readonly endings: RegExp
  readonly read: (reader: Reader) => AsyncGenerator<Document>
}

const FORMATS: readonly Format[] = [
  { name: 'jsonl', endings: /\.(jsonl|ndjson)$/i, read: jsonLines },
  { name: 'json', endings: /\.json$/i, read: json },
  { name: 'parquet', endings: /\.parquet$/i, read: parquetDocuments },
  { name: 'html', endings: /\.html?$/i, read: page },
  { name: 'text', endings: /\.(txt|text|md)$/i, read: passages },
]

/** Longest file that has to be parsed in one piece. */
const WHOLE_BYTES_MAX = 256 << 20

/** A file, opened: its format is known, its documents are not yet read. */
export async function openFile(file: DataFile, reading: Reading): Promise<Opened> {
  const packed = /\.gz$/i.test(file.name)
  const known = FORMATS.find(({ endings }) => endings.test(file.name.replace(/\.gz$/i, '')))
  const watch = new Watch(file, reading)
  const bytes = packed ? unpacked(file, watch.pieces()) : watch.pieces()
  const { format, pieces } = known ? { format: known, pieces: bytes } : await sniff(bytes)
  const facts: FileFacts = {
    name: file.name,
    format: format.name,
    documents: 0,
    skipped: 0,
    whole: true,
  }
  const bad: Bad = (error) => {
    if (!reading.skipBad) throw error
    facts.skipped++
  }
  return {
    facts,
    documents: async function* documents() {
      const limit = Math.min(reading.rows ?? Infinity, file.rows ?? Infinity)
      for await (const document of format.read({ file, pieces, reading, bad })) {
        if (facts.documents >= limit) {
          facts.whole = false
          break
        }
        facts.documents++
        yield document
      }
      await watch.finish(facts)
    },
  }
}

/** Counts and digests the bytes of a file on their way. */
class Watch {
  readonly #file: DataFile
  readonly #reading: Reading
  readonly #hash: Hash | undefined
  #bytes = 0
  #read = false

  constructor(file: DataFile, reading: Reading) {
    this.#file = file
    this.#reading = reading
    this.#hash = reading.sha256?.()
  }

  async *pieces(): AsyncGenerator<Uint8Array> {
    this.#read = true
    for await (const piece of this.#file.pieces()) {
      this.#hash?.update(piece)
      this.#bytes += piece.length
      this.#reading.onBytes?.(piece.length)
      yield piece
    }
  }

  /** A digest is of the whole file; of one that a server has, its version says as much. */
  async finish(facts: FileFacts): Promise<void> {
    if (this.#file.version) facts.version = await this.#file.version()
    if (!this.#hash || !facts.whole) return
    if (!this.#read) {
      if (this.#file.version) return
      for await (const _ of this.pieces());
    }
    facts.bytes = this.#bytes
    facts.sha256 = this.#hash.hex()
  }
}

async function* unpacked(
  file: DataFile,
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const source = pieces[Symbol.asyncIterator]()
  const packed = new ReadableStream<BufferSource>({
    async pull(controller) {
      const { value, done } = await source.next()
      if (done) controller.close()
      else controller.enqueue(value.slice())
    },
  })
  const reader = packed.pipeThrough(new DecompressionStream('gzip')).getReader()
  for (;;) {
    const { value, done } = await reader.read().catch((thrown: unknown) => {
      if (thrown instanceof LowbitError) throw thrown
      throw new LowbitError('dataset', 'The file is no whole gzip file', {
        place: file.place,
        remedy: 'get it again',
        cause: thrown,
      })
    })
    if (done) return
    yield value
  }
}

/** What has no ending that tells is rows if it begins like one, and text otherwise. */
async function sniff(
  bytes: AsyncGenerator<Uint8Array>,
): Promise<{ format: Format; pieces: AsyncIterable<Uint8Array> }> {
  const first = await bytes.next()
  const start = first.done ? '' : new TextDecoder().decode(first.value.subarray(0, 64)).trimStart()
  const name = start.startsWith('{') ? 'jsonl' : start.startsWith('[{') ? 'json' : 'text'
  const format = FORMATS.find((one) => one.name === name)
  if (!format) throw new LowbitError('internal', `There is no format ${name}`)
  async function* pieces(): AsyncGenerator<Uint8Array> {
    if (!first.done) yield first.value
    yield* bytes
  }
  return { format, pieces: pieces() }
}

async function* jsonLines({ file, pieces, reading, bad }: Reader): AsyncGenerator<Document> {
  for await (const { text, number, ended } of linesOf(file, pieces, bad)) {
    const place = linePlace(file, number)
    const row = tryRow(() => parse(text, ended), { field: reading.field, place, bad })
    if (row) yield { ...row, source: file.name, place, continues: false }
  }
}

/**
 * One list of rows, or rows one to a line under the wrong name.
 * @yields each row
 */
async function* json(reader: Reader): AsyncGenerator<Document> {
  const { file, reading, bad } = reader
  const bytes = await whole(reader)
  const text = textOf(bytes, 'dataset', file.place)
  if (!text.trimStart().startsWith('[')) {
    async function* again(): AsyncGenerator<Uint8Array> {
      yield bytes
    }
    yield* jsonLines({ ...reader, pieces: again() })
    return
  }
  let rows: readonly unknown[]
  try {
    rows = JSON.parse(text)
  } catch (error) {
    throw rowError(error, file.place)
  }
  for (const [i, value] of rows.entries()) {
    const place = linePlace(file, i + 1, 'row')
    const row = tryRow(() => value, { field: reading.field, place, bad })
    if (row) yield { ...row, source: file.name, place, continues: false }
  }
}

/**
 * A web page is one document: its markup would be cut in two by passages.
 * @yields the document
 */
async function* page(reader: Reader): AsyncGenerator<Document> {
  const { file } = reader
  const content = textOf(await whole(reader), 'dataset', file.place)
  yield { content, source: file.name, place: file.place, continues: false }
}

async function* passages({ file, pieces, reading, bad }: Reader): AsyncGenerator<Document> {
  let number = 0
  const size = reading.passage
  for await (const content of passagesOf(file, pieces, { size, bad })) {
    const place = linePlace(file, ++number, 'passage')
    if (content.includes('\0')) {
      bad(new LowbitError('dataset', 'The file holds bytes that are no text', { place }))
    } else yield { content, source: file.name, place, continues: number > 1 }
  }
}

async function whole({ file, pieces }: Reader): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const piece of pieces) {
    bytes += piece.length
    if (bytes > WHOLE_BYTES_MAX) {
      throw new LowbitError('dataset', `The file has more than ${WHOLE_BYTES_MAX} bytes`, {
        place: file.place,
        remedy: 'write one row to a line, as JSONL',
      })
    }
    parts.push(piece)
  }
  return concat(parts)
}

function parse(text: string, ended: boolean): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (ended) throw error
    throw new Error('the last line is cut off', { cause: error })
  }
}

/** A row, or nothing where it is bad and bad rows are left out. */
export function tryRow(
  value: () => unknown,
  { field, place, bad }: { field: string | undefined; place: string; bad: Bad },
): Row | undefined {
  try {
    return rowOf(value(), field)
  } catch (error) {
    bad(rowError(error, place))
    return undefined
  }
}

/**
 * Documents of all files in turn; whatever a reader throws names the file.
 * @yields each document
 */
export async function* documentsOf(
  files: readonly DataFile[],
  reading: Reading,
  opened: (facts: FileFacts) => void = () => undefined,
): AsyncGenerator<Document> {
  for (const file of files) {
    try {
      const { facts, documents } = await openFile(file, reading)
      opened(facts)
      yield* documents()
    } catch (error) {
      throw errorFrom(error, 'dataset', file.place)
    }
  }
}
