/** The files beside the tensors: what is copied, and what is written anew. */
import { MODULE_WEIGHTS } from '../encode/dense.ts'
import { LowbitError, throwIfAborted } from '../error.ts'
import type { Meter } from '../progress.ts'
import type { Store } from '../store/store.ts'

/** Weights in any form; they are what is replaced. */
const WEIGHTS = /\.(safetensors|bin|pt|pth|ckpt|gguf|ggml|onnx|onnx_data|h5|msgpack|tflite|npz)$/i

/** Files that this package writes itself. */
const WRITTEN = new Set(['config.json', 'README.md', 'recipe.yaml', 'model.safetensors.index.json'])

/** Bytes that are copied at a time. */
const CHUNK = 8 << 20

/** Longest file that is copied: beside weights there is nothing larger. */
const BYTES_MAX = 2 ** 30

/** A file to copy. */
export interface Copy {
  readonly name: string
  readonly bytes: number
}

/** What is to be copied from a source: everything but weights and what is written anew. */
export async function filesToCopy(
  source: Store,
  written: ReadonlySet<string> = WRITTEN,
): Promise<readonly Copy[]> {
  const names = (await source.list()).filter((name) => !written.has(name) && !isWeight(name))
  const files: Copy[] = []
  for (const name of names) {
    const bytes = await source.size(name)
    if (bytes <= BYTES_MAX) files.push({ name, bytes })
  }
  return files
}

/** Copies files from one store to another, a piece at a time. */
export async function copyFiles(
  from: Store,
  to: Store,
  files: readonly Copy[],
  watch: { readonly report: Meter; readonly signal: AbortSignal | undefined },
): Promise<void> {
  for (const [i, { name, bytes }] of files.entries()) {
    throwIfAborted(watch.signal)
    const target = await to.begin(name, bytes)
    try {
      for (let offset = 0; offset < bytes; offset += CHUNK) {
        const length = Math.min(CHUNK, bytes - offset)
        await target.write(offset, await from.read(name, { offset, length }))
      }
      await target.commit()
    } finally {
      await target.suspend()
    }
    watch.report({ stage: 'copy', done: i + 1, total: files.length })
  }
}

/** Writes a small text file, whole or not at all. */
export async function writeText(store: Store, name: string, text: string): Promise<void> {
  await writeBytes(store, name, new TextEncoder().encode(text))
}

/** Writes a small file, whole or not at all. */
export async function writeBytes(store: Store, name: string, bytes: Uint8Array): Promise<void> {
  // What an earlier run left under this name may be longer.
  await store.remove(name)
  const file = await store.begin(name, bytes.length)
  try {
    await file.write(0, bytes)
    await file.commit()
  } finally {
    await file.suspend()
  }
}

/** Refuses to start when the disk cannot hold the result. */
export async function checkSpace(store: Store, needed: number): Promise<void> {
  const free = await store.free()
  if (free >= needed) return
  throw new LowbitError('disk-full', `${needed} bytes are needed and ${free} are free`, {
    place: store.place,
    remedy: 'free space or choose another output',
  })
}

function isWeight(name: string): boolean {
  // Layers behind a model's pooling stay as they are.
  if (MODULE_WEIGHTS.test(name)) return false
  return WEIGHTS.test(name) || name.endsWith('.index.json')
}
