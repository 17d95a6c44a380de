/** What the reference gave, from a safetensors file. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from './helpers.ts'

/** Tensors of a fixture. */
export interface Fixture {
  readonly metadata: Readonly<Record<string, string>>
  /** Token ids, stored as I64. */
  tokens(name: string): Uint32Array
  /** Numbers, stored as F32. */
  floats(name: string): Float32Array
  /** Extent of each dimension of a tensor. */
  shape(name: string): readonly number[]
  /** Names of the tensors. */
  readonly names: readonly string[]
}

interface Entry {
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

/** Reads `test/fixtures/<name>.safetensors`. */
export async function readFixture(name: string): Promise<Fixture> {
  const file = await readFile(join(ROOT, 'test/fixtures', `${name}.safetensors`))
  const length = Number(file.readBigUInt64LE())
  const header: Record<string, Entry> & { __metadata__?: Record<string, string> } = JSON.parse(
    file.subarray(8, 8 + length).toString(),
  )
  const { __metadata__: metadata = {}, ...entries } = header
  const bytes = (tensor: string): ArrayBuffer => {
    const [begin, end] = entries[tensor]?.data_offsets ?? [0, 0]
    return new Uint8Array(file.subarray(8 + length + begin, 8 + length + end)).buffer
  }
  return {
    metadata,
    names: Object.keys(entries),
    shape: (tensor) => entries[tensor]?.shape ?? [],
    tokens: (tensor) => Uint32Array.from(new BigInt64Array(bytes(tensor)), Number),
    floats: (tensor) => new Float32Array(bytes(tensor)),
  }
}

/** The largest distance between two lists of the same length. */
export function worst(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Infinity
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? Number.NaN))), 0)
}
