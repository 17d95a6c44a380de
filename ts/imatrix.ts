/**
 * Importance matrices: collected on our own forward pass, sample by sample, merged with others, and
 * written as llama.cpp reads them. What is collected so far is a file too, so that adding a sample
 * is merging.
 */
import type { Binding } from './binding.ts'
import { errorFrom, LowbitError, quote, throwIfAborted } from './error.ts'
import type { Host, Source } from './host.ts'
import { loadedOf } from './loaded.ts'
import type { Model } from './model.ts'
import { checkOptions } from './option-rules.ts'
import type { ImatrixOptions } from './options.ts'
import { meter } from './progress.ts'
import { calibrationSize, readCalibration } from './quantize/calibration.ts'
import type { CalibrationInput } from './quantize/calibration-files.ts'
import { writeBytes } from './quantize/files.ts'
import type { Store } from './store/store.ts'

/** What `imatrix` returns. */
export interface ImatrixReport {
  /** The model that was run; null when files were only merged. */
  readonly model: string | null
  /** The file that was written. */
  readonly out: string
  readonly format: 'gguf' | 'dat'
  /** Samples that were run, and the tokens of each. */
  readonly samples: number
  readonly length: number
  /** Where the samples came from, without folders. */
  readonly text: string | null
  /** Files that were merged in. */
  readonly merged: readonly string[]
  readonly bytes: number
  readonly seconds: number
  /** What the reader should know. */
  readonly notes: readonly string[]
}

/** What the work is done with. */
interface World {
  readonly binding: Binding
  readonly host: Host
  /** The model's files and how it is loaded; without a model, files are only merged. */
  readonly model:
    | { readonly source: Source; readonly place: string; readonly load: () => Promise<Model> }
    | undefined
}

interface Collected {
  /** What was collected. */
  readonly files: readonly Uint8Array[]
  readonly samples: number
  readonly length: number
  readonly text: string | null
  readonly notes: readonly string[]
}

/** Collects, merges and writes. */
export async function makeImatrix(world: World, options: ImatrixOptions): Promise<ImatrixReport> {
  checkOptions('imatrix', options)
  const begun = performance.now()
  const { binding, host, model } = world
  const target = targetOf(host, options)
  const files = await filesOf(world, options)
  await checkTarget(target, options.force ?? false)
  const found = model ? await collect(world, model, options) : NOTHING
  const format = options.format ?? (target.file.endsWith('.dat') ? 'dat' : 'gguf')
  const bytes = await merged(binding, [...files, ...found.files], { format })
  await writeBytes(target.store, target.file, bytes)
  const { samples, length, text, notes } = found
  return {
    model: model?.place ?? null,
    out: `${target.store.place}/${target.file}`,
    format,
    samples,
    length,
    text,
    merged: options.merge ?? [],
    bytes: bytes.length,
    seconds: (performance.now() - begun) / 1000,
    notes,
  }
}

/** Files to merge; what is wrong with one is said before the model runs. */
async function filesOf(
  { binding, host, model }: World,
  { merge = [] }: ImatrixOptions,
): Promise<readonly Uint8Array[]> {
  if (merge.length > 0) {
    const files = await Promise.all(merge.map((place) => host.readText(place)))
    await merged(binding, files.map(copy), {})
    return files
  }
  if (model) return []
  throw new LowbitError('option', 'There is neither a model to run nor a file to merge', {
    remedy: 'name a model, or files with merge',
  })
}

const NOTHING: Collected = { files: [], samples: 0, length: 0, text: null, notes: [] }

/** Runs every sample of the set through the model. */
async function collect(
  { binding, host }: World,
  { source, load, place }: NonNullable<World['model']>,
  options: ImatrixOptions,
): Promise<Collected> {
  const input: CalibrationInput = { given: options.calibration, recipe: {}, folder: undefined }
  const size = await calibrationSize(host, input, options)
  const set = await readCalibration(host, { store: source.store, place }, input, size)
  const model = await load()
  const report = meter(options)
  let file: Uint8Array | undefined
  try {
    const { handle } = loadedOf(model)
    for (let i = 0; i < set.samples; i++) {
      throwIfAborted(options.signal)
      const tokens = set.tokens.slice(i * set.length, (i + 1) * set.length)
      const request = { model: handle, datasets: [set.text] }
      const one = await call(binding, request, [new Uint8Array(tokens.buffer)])
      file = file ? await merged(binding, [file, one], {}) : one
      report({ stage: 'collect', done: i + 1, total: set.samples })
    }
  } finally {
    await model.dispose()
  }
  const { samples, length, text, notes } = set
  return { files: file ? [file] : [], samples, length, text, notes }
}

async function merged(
  binding: Binding,
  files: Uint8Array[],
  request: { readonly format?: string },
): Promise<Uint8Array> {
  return call(binding, request, files)
}

async function call(
  binding: Binding,
  request: Readonly<Record<string, unknown>>,
  data: Uint8Array[],
): Promise<Uint8Array> {
  try {
    return await binding.imatrix(JSON.stringify(request), data)
  } catch (error) {
    throw errorFrom(error, 'internal')
  }
}

/** A binding takes what it is given away. */
function copy(bytes: Uint8Array): Uint8Array {
  return bytes.slice()
}

interface Target {
  readonly store: Store
  readonly file: string
}

function targetOf(host: Host, { out }: ImatrixOptions): Target {
  return typeof out === 'string' ? host.folder(out) : { store: out, file: 'imatrix.gguf' }
}

async function checkTarget({ store, file }: Target, force: boolean): Promise<void> {
  if (force) return
  const bytes = await store.size(file).catch(() => undefined)
  if (bytes === undefined) return
  throw new LowbitError('output-path', `The output ${quote(file)} exists`, {
    place: store.place,
    remedy: 'use --force to replace it',
  })
}
