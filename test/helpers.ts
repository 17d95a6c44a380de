/** What tests share: folders that go away, and tiny checkpoints. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { type ErrorCode, LowbitError } from '../ts/error.ts'
import { nativeBinding } from '../ts/native.ts'
import { type Presets, presetsOf } from '../ts/recipe/foreign-schemes.ts'

/** The repository. */
export const ROOT: string = fileURLToPath(new URL('..', import.meta.url))

/** The trained model, and text it has not seen. */
export const NOVELS: string = join(ROOT, 'models/novels-4m')

/** llm-compressor's names for schemes, as the core lists them. */
export async function presets(): Promise<Presets> {
  return presetsOf(JSON.parse(await (await nativeBinding()).catalog()))
}

/** A folder that is deleted after the test. */
export async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'lowbit-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Asserts that a call fails with a code, and gives the error. */
export async function failsWith(
  t: ExecutionContext,
  code: ErrorCode,
  run: () => unknown,
): Promise<LowbitError> {
  const error = await t.throwsAsync(async () => run(), { instanceOf: LowbitError })
  t.is(error?.code, code, error?.message ?? 'nothing was thrown')
  return error ?? new LowbitError('internal', 'nothing was thrown')
}

/** A tensor to write. */
export interface Planned {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** Bytes of a safetensors file. */
export function safetensors(
  tensors: Readonly<Record<string, Planned>>,
  metadata?: Readonly<Record<string, string>>,
): Uint8Array {
  let end = 0
  const entries = Object.entries(tensors).map(([name, { dtype, shape, data }]) => {
    const begin = end
    end += data.length
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const
  })
  const header = Object.fromEntries(entries)
  const text = JSON.stringify(metadata ? { __metadata__: metadata, ...header } : header)
  const padded = text.padEnd(Math.ceil(text.length / 8) * 8)
  const bytes = new Uint8Array(8 + padded.length + end)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded.length), true)
  bytes.set(new TextEncoder().encode(padded), 8)
  let at = 8 + padded.length
  for (const { data } of Object.values(tensors)) {
    bytes.set(data, at)
    at += data.length
  }
  return bytes
}

/** A tensor of counted bytes. */
export function counted(shape: readonly number[], seed = 0): Planned {
  const count = shape.reduce((product, dim) => product * dim, 2)
  return { dtype: 'BF16', shape, data: Uint8Array.from({ length: count }, (_, i) => i * 7 + seed) }
}

/** All pieces of a generation. */
export async function textOf(pieces: AsyncIterable<string>): Promise<string> {
  let text = ''
  for await (const piece of pieces) text += piece
  return text
}
