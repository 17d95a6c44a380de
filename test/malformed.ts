/** Malformed containers as bytes, for tests of every way in; `fixtures/malformed.json` has the list. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ErrorCode } from '../ts/error.ts'
import { ROOT } from './helpers.ts'

/** A folder's files and the code that reading them must give. */
export interface Malformed {
  /** Number in the list of malformed inputs, 0 for a valid one, and what it is. */
  readonly name: string
  /** `ok` for those that must be accepted. */
  readonly code: ErrorCode | 'ok'
  /** By file name. */
  readonly files: ReadonlyMap<string, Uint8Array>
}

/** Bytes as Latin-1 text, or such text and how often it is repeated, with `$i` counted up. */
type Part = string | readonly [string, number]

/** Either all bytes of a file, or a header, its stated length if that lies, and zeros behind it. */
interface Recipe {
  readonly raw?: readonly Part[]
  readonly header?: readonly Part[]
  readonly length?: string
  readonly data?: number
}

interface Case {
  readonly case: number
  readonly name: string
  readonly code: ErrorCode | 'ok'
}

interface IndexCase extends Case {
  readonly index: readonly Part[]
  readonly files: Readonly<Record<string, Recipe>>
}

const table: { files: readonly (Case & Recipe)[]; indexes: readonly IndexCase[] } = JSON.parse(
  readFileSync(join(ROOT, 'test/fixtures/malformed.json'), 'utf8'),
)

function bytesOf(parts: readonly Part[]): Buffer {
  const repeat = (text: string, times: number): string =>
    Array.from({ length: times }, (_, i) => text.replaceAll('$i', String(i))).join('')
  const text = parts.map((part) => (typeof part === 'string' ? part : repeat(...part)))
  return Buffer.from(text.join(''), 'latin1')
}

function fileOf(recipe: Recipe): Uint8Array {
  if (recipe.raw !== undefined) return bytesOf(recipe.raw)
  const header = bytesOf(recipe.header ?? [])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(recipe.length ?? header.length))
  return Buffer.concat([length, header, Buffer.alloc(recipe.data ?? 0)])
}

function titled(one: Case): string {
  return `case ${one.case}: ${one.name}`
}

/** Single files, each as `model.safetensors`. */
export function malformedFiles(): Malformed[] {
  return table.files.map((one) => ({
    name: titled(one),
    code: one.code,
    files: new Map([['model.safetensors', fileOf(one)]]),
  }))
}

/** Indexes with those of their shards that exist. */
export function malformedIndexes(): Malformed[] {
  return table.indexes.map((one) => ({
    name: titled(one),
    code: one.code,
    files: new Map([
      ['model.safetensors.index.json', bytesOf(one.index)],
      ...Object.entries(one.files).map(([name, shard]) => [name, fileOf(shard)] as const),
    ]),
  }))
}

/** A valid file cut at and around every boundary of its structure. */
export function truncatedFiles(): Malformed[] {
  const header = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
  const whole = fileOf({ header: [header], data: 8 })
  const start = 8 + header.length
  return [0, 1, 7, 8, 9, start - 1, start, start + 1, whole.length - 1].map((cut) => ({
    name: `case 13: cut at byte ${cut} of ${whole.length}`,
    code: 'truncated',
    files: new Map([['model.safetensors', whole.slice(0, cut)]]),
  }))
}
