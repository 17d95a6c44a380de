/** Parquet to documents, one row group at a time and only the columns that hold text. */
import type { AsyncBuffer, FileMetaData } from 'hyparquet'
import { LowbitError } from '../error.ts'
import type { Reader } from './read.ts'
import { columnsFor, type Document, missing, rowError, rowOf } from './rows.ts'
import { linePlace, type Ranges } from './source.ts'

/** Most bytes of a row group's columns, unpacked, that are held at a time. */
const GROUP_BYTES_MAX = 1 << 30
/** Most bytes that are held of a file that comes in order only. */
const STREAM_BYTES_MAX = 1 << 30

/**
 * Documents of a Parquet file; `dataset` when it is none, or has no column of text.
 * @yields each row
 */
export async function* parquetDocuments(reader: Reader): AsyncGenerator<Document> {
  const { file, reading, bad } = reader
  const [parquet, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ])
  const buffer = await bufferOf(file.ranges ?? (await held(reader)))
  const metadata = await guarded(reader, () => parquet.parquetMetadataAsync(buffer))
  const columns = [...textColumns(reader, metadata)]
  let rowStart = 0
  for (const group of metadata.row_groups) {
    const rows = Number(group.num_rows)
    checkGroup(reader, group, columns)
    const options = { file: buffer, metadata, columns, rowStart, rowEnd: rowStart + rows }
    const values = await guarded(reader, () =>
      parquet.parquetReadObjects({ ...options, compressors }),
    )
    for (const [i, value] of values.entries()) {
      const place = linePlace(file, rowStart + i + 1, 'row')
      try {
        const row = rowOf(value, reading.field)
        yield { ...row, source: file.name, place, continues: false }
      } catch (error) {
        bad(rowError(error, place))
      }
    }
    rowStart += rows
  }
}

async function bufferOf(ranges: Ranges): Promise<AsyncBuffer> {
  return {
    byteLength: await ranges.size(),
    async slice(start, end) {
      const size = await ranges.size()
      const from = start < 0 ? Math.max(size + start, 0) : start
      const to = Math.min(end ?? size, size)
      const bytes = await ranges.read({ offset: from, length: Math.max(to - from, 0) })
      return bytes.slice().buffer
    },
  }
}

/** A table is read from its end, which standard input gives last. */
async function held({ file, pieces }: Reader): Promise<Ranges> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const piece of pieces) {
    size += piece.length
    if (size > STREAM_BYTES_MAX) {
      throw new LowbitError('dataset', 'The table is too long to be read from a stream', {
        place: file.place,
        remedy: 'name the file',
      })
    }
    parts.push(piece)
  }
  const blob = new Blob(parts.map((part) => part.slice()))
  return {
    size: async () => size,
    read: async ({ offset, length }) =>
      new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
  }
}

function textColumns({ file, reading }: Reader, metadata: FileMetaData): readonly string[] {
  const names = topColumns(metadata)
  const columns = columnsFor(names, reading.field)
  if (columns.length > 0) return columns
  const row = Object.fromEntries(names.map((name) => [name, null]))
  throw rowError(missing(row, reading.field ?? 'text'), file.place)
}

/** Columns of the table: the children of the schema's root, however deep they go on. */
function topColumns({ schema }: FileMetaData): readonly string[] {
  const names: string[] = []
  let inside = 0
  for (const { name, num_children: children = 0 } of schema.slice(1)) {
    if (inside === 0) names.push(name)
    else inside--
    inside += children
  }
  return names
}

type RowGroup = FileMetaData['row_groups'][number]

/** A group that says it is larger than memory is not unpacked to see. */
function checkGroup({ file }: Reader, group: RowGroup, columns: readonly string[]): void {
  let bytes = 0
  for (const { meta_data: column } of group.columns) {
    const name = column?.path_in_schema[0] ?? ''
    if (column && columns.includes(name)) bytes += Number(column.total_uncompressed_size)
  }
  if (bytes <= GROUP_BYTES_MAX) return
  throw new LowbitError('dataset', `A row group has ${bytes} bytes of text`, {
    place: file.place,
    remedy: 'write the table with smaller row groups',
  })
}

/** Whatever the reader says about a stranger's file is the file's fault. */
async function guarded<T>({ file }: Reader, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (cause) {
    if (cause instanceof LowbitError) throw cause
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new LowbitError('dataset', `The Parquet file cannot be read: ${why.slice(0, 200)}`, {
      place: file.place,
      remedy: 'get it again',
      cause,
    })
  }
}
