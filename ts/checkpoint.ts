/**
 * A checkpoint as it lies in a store: config, shard index and headers, all checked, and the place
 * of every tensor. No tensor is read here.
 */
import type { Binding } from './binding.ts'
import { checkValues, type Json, objectOf, textOf } from './bytes.ts'
import { errorFrom, LowbitError, quote } from './error.ts'
import { findGguf, type GgufOptions, openGguf, readRestored, type Restored } from './gguf.ts'
import type { Source } from './host.ts'
import { checkRange, isGuarded, type Range, readLimited, type Store } from './store/store.ts'

/** Where one tensor lies. */
export interface TensorPlace {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  /** The file, and the first byte in it. */
  readonly file: string
  readonly offset: number
  /** Bytes of the tensor, as `readTensor` gives them. */
  readonly bytes: number
  /** How they are made of what lies in the file, when they do not lie there as they are. */
  readonly restore?: Restored
}

/** An opened checkpoint. */
export interface Checkpoint {
  /** Its files; those that a GGUF file keeps in its metadata are among them. */
  readonly store: Store
  /** What holds the tensors, as people call it. */
  readonly container: string
  readonly binding: Binding
  /** Folder, file or address, for messages. */
  readonly place: string
  /** config.json; absent when a single file was opened that has none beside it. */
  readonly config: { readonly text: string; readonly json: Json } | undefined
  /** Tensors by name, in the order of files and bytes. */
  readonly tensors: ReadonlyMap<string, TensorPlace>
  /** Files that hold tensors. */
  readonly files: readonly WeightFile[]
}

/** One file of tensors. */
export interface WeightFile {
  readonly name: string
  readonly bytes: number
  readonly identity: string
  readonly metadata: Readonly<Record<string, string>>
}

/** What `Binding.header` returns. */
interface Header {
  readonly tensors: readonly {
    name: string
    dtype: string
    shape: number[]
    begin: number
    end: number
  }[]
  readonly metadata: Readonly<Record<string, string>>
  readonly dataStart: number
}

/** What `Binding.index` returns. */
interface Index {
  readonly files: readonly string[]
  readonly weightMap: Readonly<Record<string, string>>
  readonly totalSize?: number | null
}

const INDEX = 'model.safetensors.index.json'
const SINGLE = 'model.safetensors'

/** Longest safetensors header that the format allows. */
const HEADER_BYTES_MAX = 100_000_000
/** Bytes that are shown to the reader when the announced header cannot be there. */
const SNIFF_BYTES = 4096
/** Longest config.json that is read. */
const CONFIG_BYTES_MAX = 16 << 20
/** Shards whose headers are read at the same time: for a server far away. */
const HEADERS_AT_ONCE = 8

/** Opens a folder, an address or a single file of tensors. */
export async function openCheckpoint(
  binding: Binding,
  source: Source,
  options: GgufOptions = {},
): Promise<Checkpoint> {
  const { store, file } = source
  const place = file === undefined ? store.place : `${store.place}/${file}`
  const gguf = await findGguf(source)
  if (gguf !== undefined) return openOne(binding, { store, file: gguf }, place, options)
  const names = new Set(await store.list())
  const config = names.has('config.json') ? await readConfig(store) : undefined
  const single = file ?? singleFile(names)
  const found =
    single === undefined
      ? await openSharded(binding, store, names)
      : [await openFile(binding, store, single)]
  const tensors = byName(found.flatMap((opened) => opened.tensors))
  const files = found.map((opened) => opened.file)
  return { store, place, config, tensors, files, binding, container: 'safetensors' }
}

/** A checkpoint in GGUF, by one of its files. */
async function openOne(
  binding: Binding,
  { store, file }: Required<Source>,
  place: string,
  options: GgufOptions,
): Promise<Checkpoint> {
  const { tensors, ...gguf } = await openGguf(binding, store, file, options)
  const config = await readConfig(gguf.store)
  return { ...gguf, place, config, tensors: byName(tensors), binding }
}

function byName(tensors: readonly TensorPlace[]): ReadonlyMap<string, TensorPlace> {
  return new Map(tensors.map((tensor) => [tensor.name, tensor]))
}

/** config.json, which a model needs. */
export function configOf(checkpoint: Checkpoint): { readonly text: string; readonly json: Json } {
  if (checkpoint.config) return checkpoint.config
  throw new LowbitError('not-found', 'There is no config.json beside the tensors', {
    place: checkpoint.place,
    remedy: "name the model's folder",
  })
}

/** Reads a tensor or a part of it; `missing-tensor` when the checkpoint has none of that name. */
export async function readTensor(
  checkpoint: Checkpoint,
  name: string,
  part?: Range,
): Promise<Uint8Array> {
  const tensor = checkpoint.tensors.get(name)
  if (!tensor) {
    throw new LowbitError('missing-tensor', `There is no tensor ${quote(name)}`, {
      place: checkpoint.place,
    })
  }
  const { offset, length } = part ?? { offset: 0, length: tensor.bytes }
  checkRange({ offset, length }, tensor.bytes, `${checkpoint.place}: tensor ${quote(name)}`)
  const { restore } = tensor
  if (restore && length > 0) return readRestored(checkpoint, tensor, restore, { offset, length })
  return checkpoint.store.read(tensor.file, { offset: tensor.offset + offset, length })
}

/**
 * JSON of a request about this checkpoint. The config goes in as it was written, because parsing
 * and printing it would lose digits of large numbers.
 */
export function requestText(checkpoint: Checkpoint, rest: Json): string {
  const tensors = Array.from(checkpoint.tensors.values(), ({ name, dtype, shape, file }) => ({
    name,
    dtype,
    shape,
    file,
  }))
  const members = JSON.stringify({ ...rest, tensors }).slice(1)
  return `{"config":${configOf(checkpoint).text},${members}`
}

async function readConfig(store: Store): Promise<{ text: string; json: Json }> {
  const place = `${store.place}/config.json`
  const text = textOf(await readLimited(store, 'config.json', CONFIG_BYTES_MAX), 'config', place)
  const json = objectOf(text, 'config', place)
  checkValues(json, 'config', place)
  return { text, json }
}

/** The one file of tensors, or nothing when an index names them; transformers looks in this order. */
function singleFile(names: ReadonlySet<string>): string | undefined {
  if (names.has(SINGLE)) return SINGLE
  if (names.has(INDEX)) return undefined
  const files = [...names].filter((name) => name.endsWith('.safetensors') && !name.includes('/'))
  if (files.length === 1) return files[0]
  if (files.length > 1) {
    throw new LowbitError('index', `${files.length} safetensors files and no ${INDEX}`, {
      remedy: 'add the index or name one file',
    })
  }
  throw noWeights(names)
}

function noWeights(names: ReadonlySet<string>): LowbitError {
  const pickle = [...names].find((name) => /\.(bin|pt|pth|ckpt)$/.test(name))
  if (pickle !== undefined) {
    return new LowbitError('not-a-model', `${quote(pickle)} is a pickle, which is never opened`, {
      remedy: 'save the model as safetensors',
    })
  }
  return new LowbitError('not-found', `There is neither ${SINGLE} nor ${INDEX}`, {
    remedy: "name a model's folder or address, or a safetensors or GGUF file",
  })
}

interface Opened {
  readonly file: WeightFile
  readonly tensors: readonly TensorPlace[]
}

async function openFile(binding: Binding, store: Store, name: string): Promise<Opened> {
  const place = `${store.place}/${name}`
  const bytes = await store.size(name)
  let head = await store.read(name, { offset: 0, length: Math.min(bytes, SNIFF_BYTES) })
  const wanted = head.length < 8 ? 0 : 8 + Number(new DataView(head.buffer).getBigUint64(0, true))
  // A length that cannot be true is not read, let alone allocated: the reader says what is wrong.
  if (wanted > head.length && wanted <= Math.min(bytes, HEADER_BYTES_MAX + 8)) {
    head = await store.read(name, { offset: 0, length: wanted })
  }
  const header = await inPlace(place, async () => {
    const parsed: Header = JSON.parse(await binding.header(head, bytes))
    return parsed
  })
  const tensors = header.tensors.map(({ name: tensor, dtype, shape, begin, end }) => ({
    name: tensor,
    dtype,
    shape,
    file: name,
    offset: header.dataStart + begin,
    bytes: end - begin,
  }))
  const identity = await store.identity(name)
  return { file: { name, bytes, identity, metadata: header.metadata }, tensors }
}

async function openSharded(
  binding: Binding,
  store: Store,
  names: ReadonlySet<string>,
): Promise<readonly Opened[]> {
  const place = `${store.place}/${INDEX}`
  const text = await readLimited(store, INDEX, HEADER_BYTES_MAX)
  const index = await inPlace(place, async () => {
    const parsed: Index = JSON.parse(await binding.index(text))
    return parsed
  })
  // Every name is checked before the first file is opened.
  if (isGuarded(store)) for (const file of index.files) await store.guard(file)
  const absent = index.files.find((file) => !names.has(file))
  if (absent !== undefined) {
    throw new LowbitError('index', `The index names ${quote(absent)}, which is not there`, {
      place,
      remedy: 'download the missing file',
    })
  }
  const opened: Opened[] = []
  for (let i = 0; i < index.files.length; i += HEADERS_AT_ONCE) {
    const some = index.files.slice(i, i + HEADERS_AT_ONCE)
    opened.push(...(await Promise.all(some.map((file) => openFile(binding, store, file)))))
  }
  checkIndex(index, opened, place)
  return opened
}

/** The index and the shards must tell the same story, or two readers load two models. */
function checkIndex(index: Index, opened: readonly Opened[], place: string): void {
  const listed = new Map(Object.entries(index.weightMap))
  const seen = new Map<string, string>()
  let bytes = 0
  for (const tensor of opened.flatMap((shard) => shard.tensors)) {
    const before = seen.get(tensor.name)
    const name = quote(tensor.name)
    if (before !== undefined) throw mismatch(`Tensor ${name} is in ${before} and ${tensor.file}`)
    const said = listed.get(tensor.name)
    if (said !== tensor.file) {
      const where = said === undefined ? 'is not in the index' : `is said to be in ${quote(said)}`
      throw mismatch(`Tensor ${name} of ${quote(tensor.file)} ${where}`)
    }
    seen.set(tensor.name, tensor.file)
    bytes += tensor.bytes
  }
  for (const [name, file] of listed) {
    if (!seen.has(name)) throw mismatch(`Tensor ${quote(name)} is not in ${quote(file)}`)
  }
  if (index.totalSize !== undefined && index.totalSize !== null && index.totalSize !== bytes) {
    throw mismatch(`total_size is ${index.totalSize} and the tensors have ${bytes} bytes`)
  }

  function mismatch(what: string): LowbitError {
    return new LowbitError('index', what, { place, remedy: 'download the model again' })
  }
}

/** Adds the file to an error of the binding, which does not know it. */
async function inPlace<T>(place: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (error) {
    throw errorFrom(error, 'internal', place)
  }
}
