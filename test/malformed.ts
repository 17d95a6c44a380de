/** The hostile files of `test/fixtures/malformed.json`, made when they are needed. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from './helpers.ts'

/** Bytes as Latin-1 text, or a text and how often; `$i` in it counts up. */
type Part = string | readonly [string, number]

/** How a file is made. */
export interface Recipe {
  readonly raw?: readonly Part[]
  readonly header?: readonly Part[]
  /** The length that is announced, if it is not the header's. */
  readonly length?: string
  /** Bytes of zeros behind the header. */
  readonly data?: number
}

/** A file or an index, and the code that it deserves. */
export interface Case extends Recipe {
  readonly case: number
  readonly name: string
  /** `ok` where nothing is wrong. */
  readonly code: string
}

/** An index with its shards. */
export interface IndexCase extends Case {
  readonly index: readonly Part[]
  readonly files: Readonly<Record<string, Recipe>>
}

/** All of them. */
export async function malformed(): Promise<{
  files: readonly Case[]
  indexes: readonly IndexCase[]
}> {
  const text = await readFile(join(ROOT, 'test/fixtures/malformed.json'), 'utf8')
  const table: { files: readonly Case[]; indexes: readonly IndexCase[] } = JSON.parse(text)
  return table
}

/** Bytes of parts. */
export function bytesOf(parts: readonly Part[]): Uint8Array {
  const texts = parts.map((part) =>
    typeof part === 'string'
      ? part
      : Array.from({ length: part[1] }, (_, i) => part[0].replaceAll('$i', String(i))).join(''),
  )
  return Buffer.from(texts.join(''), 'latin1')
}

/** Bytes of a file. */
export function fileOf({ raw, header = [], length, data = 0 }: Recipe): Uint8Array {
  if (raw) return bytesOf(raw)
  const text = bytesOf(header)
  const start = Buffer.alloc(8)
  start.writeBigUInt64LE(BigInt(length ?? text.length))
  return Buffer.concat([start, text, Buffer.alloc(data)])
}
