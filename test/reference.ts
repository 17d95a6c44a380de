/** Tokens and logits of three prompts on novels-4m, as transformers gives them in f32. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from './helpers.ts'

/** One prompt of the reference. */
export interface Prompt {
  readonly text: string
  readonly tokens: readonly number[]
  /** The 64 greedy tokens that follow. */
  readonly greedy: readonly number[]
  /** Row-major `[tokens, vocabulary]`. */
  readonly logits: Float32Array
}

interface Entry {
  readonly data_offsets: readonly [number, number]
}

/** Reads the three prompts. */
export async function referencePrompts(): Promise<readonly Prompt[]> {
  const file = await readFile(join(ROOT, 'test/fixtures/novels-4m-reference.safetensors'))
  const length = Number(file.readBigUInt64LE(0))
  const header: Record<string, Entry> & { __metadata__: Record<string, string> } = JSON.parse(
    file.toString('utf8', 8, 8 + length),
  )
  const data = (name: string): ArrayBuffer => {
    const [begin, end] = header[name]?.data_offsets ?? [0, 0]
    const bytes = file.subarray(8 + length + begin, 8 + length + end)
    return Uint8Array.from(bytes).buffer
  }
  const ids = (name: string): number[] => Array.from(new BigInt64Array(data(name)), Number)
  return [0, 1, 2].map((i) => ({
    text: header.__metadata__[`prompt_${i}`] ?? '',
    tokens: ids(`prompt_${i}.tokens`),
    greedy: ids(`prompt_${i}.greedy`),
    logits: new Float32Array(data(`prompt_${i}.logits`)),
  }))
}
