/**
 * A GGUF file, or several that are one model, as a checkpoint: the core says what it needs of the
 * files, and what they hold; here they are read.
 */
import type { Binding } from './binding.ts'
import { concat } from './bytes.ts'
import type { TensorPlace, WeightFile } from './checkpoint.ts'
import { CODES, type ErrorCode, errorFrom, LowbitError, quote } from './error.ts'
import type { Source } from './host.ts'
import type { Range, Store } from './store/store.ts'
import { type Text, textStore } from './store/texts.ts'

/** How a file is opened. */
export interface GgufOptions {
  /** Floats that blocks are decoded to when they are read; as they are stored otherwise. */
  readonly floats?: 'F16' | 'BF16' | 'F32'
}

/** Files of GGUF as a checkpoint. */
export interface Gguf {
  /** The files, and what their metadata says as the files of a checkpoint. */
  readonly store: Store
  readonly tensors: readonly TensorPlace[]
  readonly files: readonly WeightFile[]
  /** Version and mix, as people call them. */
  readonly container: string
}

/** How rows of a tensor become the checkpoint's. */
export interface Restored {
  /** For `Binding.ggufRows`. */
  readonly request: string
  /** Bytes that can only be restored together: in the file, and restored. */
  readonly stored: number
  readonly unit: number
  /** Where the rest lies of what is made of two tensors, and its bytes for each unit. */
  readonly second: Second | null
}

interface Second {
  readonly file: string
  readonly offset: number
  readonly stored: number
}

/** What the core wants next. */
type Ask =
  | { readonly kind: 'head'; readonly file: number; readonly bytes: number }
  | { readonly kind: 'files'; readonly names: readonly string[] }
  | {
      readonly kind: 'values'
      readonly name: string
      readonly file: number
      readonly offset: number
      readonly bytes: number
    }
  | Done

interface Done {
  readonly kind: 'done'
  readonly tensors: readonly (Omit<TensorPlace, 'file' | 'restore'> & {
    readonly file: number
    readonly restore:
      | (Omit<Restored, 'second'> & {
          readonly second: (Omit<Second, 'file'> & { readonly file: number }) | null
        })
      | null
  })[]
  /** Names of the texts, which come as data. */
  readonly texts: readonly string[]
  readonly problems: readonly { name: string; code: string; message: string }[]
  readonly metadata: Readonly<Record<string, string>>
  readonly version: number
  readonly mix: string | null
}

/** Bytes that are read of a file at first: most headers without a vocabulary fit. */
const FIRST_BYTES = 1 << 20
/** More rounds than any file can need, because each at least doubles what is read. */
const ROUNDS_MAX = 64
/** Files whose heads are read at the same time. */
const HEADS_AT_ONCE = 8

/** Whether a file's name says GGUF. */
function isGguf(file: string): boolean {
  return /\.gguf$/i.test(file)
}

/** The GGUF file of a source: the one that it names, or the one model of a folder without others. */
export async function findGguf({ store, file }: Source): Promise<string | undefined> {
  if (file !== undefined) return isGguf(file) ? file : undefined
  const names = (await store.list()).filter((name) => !name.includes('/'))
  if (names.some((name) => /\.safetensors(\.index\.json)?$/.test(name))) return undefined
  // A projector beside a model is a part of none that is read here.
  const models = names.filter((name) => isGguf(name) && !name.startsWith('mmproj')).toSorted()
  const [first] = models
  const stems = new Set(models.map((name) => name.replace(/-\d{5}-of-(\d{5})\.gguf$/i, '-$1')))
  if (stems.size <= 1) return first
  throw new LowbitError('index', `There are ${stems.size} GGUF models`, {
    place: store.place,
    remedy: `name one of them, as ${quote(first ?? '')}`,
  })
}

/** Opens a model by any of its files. */
export async function openGguf(
  binding: Binding,
  store: Store,
  file: string,
  { floats }: GgufOptions = {},
): Promise<Gguf> {
  let known: Known = { files: [await readHead(store, file)], values: [] }
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const { files, values } = known
    const request = JSON.stringify({
      files: files.map(({ name, bytes }) => ({ name, bytes })),
      values: values.map(({ name }) => name),
      floats,
    })
    const data = [...files.map(({ head }) => head), ...values.map(({ bytes }) => bytes)]
    const { ask, data: texts } = await polled(binding, request, data, store.place)
    if (ask.kind === 'done') return opened(store, files, ask, texts)
    known = await supplied(store, known, ask)
  }
  throw new LowbitError('internal', 'The header never ends', { place: `${store.place}/${file}` })
}

/** Reads what the core asks for. */
async function supplied(
  store: Store,
  { files, values }: Known,
  ask: Exclude<Ask, Done>,
): Promise<Known> {
  if (ask.kind === 'files') return { files: await readHeads(store, ask.names), values }
  const file = files[ask.file]
  if (!file) throw new LowbitError('internal', `The core asks for file ${ask.file}`)
  if (ask.kind === 'head') {
    return { files: files.with(ask.file, await readOn(store, file, ask.bytes)), values }
  }
  const bytes = await store.read(file.name, { offset: ask.offset, length: ask.bytes })
  return { files, values: [...values, { name: ask.name, bytes }] }
}

/** The source with the texts that its GGUF file holds, where it is one. */
export async function withTexts(binding: Binding, source: Source): Promise<Source> {
  const file = await findGguf(source)
  return file === undefined
    ? source
    : { store: (await openGguf(binding, source.store, file)).store, file }
}

/** Reads a part of a tensor, in bytes of what it is restored to. */
export async function readRestored(
  read: { readonly store: Store; readonly binding: Binding },
  tensor: TensorPlace,
  restore: Restored,
  part: Range,
): Promise<Uint8Array> {
  const { unit, second } = restore
  const first = Math.floor(part.offset / unit)
  const count = Math.ceil((part.offset + part.length) / unit) - first
  const piece = async ({ file, offset, stored }: Second): Promise<Uint8Array> =>
    read.store.read(file, { offset: offset + first * stored, length: count * stored })
  const bytes = await piece({ ...tensor, stored: restore.stored })
  const all = second ? concat([bytes, await piece(second)]) : bytes
  try {
    const rows = await read.binding.ggufRows(restore.request, all)
    if (rows.length === part.length) return rows
    const from = part.offset - first * unit
    return rows.slice(from, from + part.length)
  } catch (error) {
    throw errorFrom(error, 'internal', `${read.store.place}: tensor ${quote(tensor.name)}`)
  }
}

/** What was read so far. */
interface Known {
  readonly files: readonly Head[]
  /** Tensors that config.json is made of. */
  readonly values: readonly { readonly name: string; readonly bytes: Uint8Array }[]
}

/** A file as far as it was read. */
interface Head {
  readonly name: string
  readonly bytes: number
  readonly head: Uint8Array
}

async function readHead(store: Store, name: string): Promise<Head> {
  const bytes = await store.size(name)
  const length = Math.min(bytes, FIRST_BYTES)
  return { name, bytes, head: await readRange(store, name, { offset: 0, length }) }
}

async function readHeads(store: Store, names: readonly string[]): Promise<Head[]> {
  const heads: Head[] = []
  for (let i = 0; i < names.length; i += HEADS_AT_ONCE) {
    const some = names.slice(i, i + HEADS_AT_ONCE)
    heads.push(...(await Promise.all(some.map((name) => readPart(store, name)))))
  }
  return heads
}

/** A file that another one announces. */
async function readPart(store: Store, name: string): Promise<Head> {
  try {
    return await readHead(store, name)
  } catch (thrown) {
    const error = errorFrom(thrown, 'io')
    if (error.code !== 'not-found') throw error
    throw new LowbitError('index', `The model is in several files, ${quote(name)} is not there`, {
      place: store.place,
      remedy: 'download the missing file',
    })
  }
}

async function readOn(store: Store, { name, bytes, head }: Head, wanted: number): Promise<Head> {
  const length = Math.min(wanted, bytes) - head.length
  if (length <= 0) throw new LowbitError('internal', 'The core asks for bytes that it has')
  const more = await readRange(store, name, { offset: head.length, length })
  return { name, bytes, head: concat([head, more]) }
}

/** Less than was asked for, again and again, would be asked for for ever. */
async function readRange(store: Store, name: string, range: Range): Promise<Uint8Array> {
  const bytes = await store.read(name, range)
  if (bytes.length === range.length) return bytes
  throw new LowbitError('truncated', `${bytes.length} of ${range.length} bytes came`, {
    place: `${store.place}/${name}`,
  })
}

async function polled(
  binding: Binding,
  request: string,
  data: Uint8Array[],
  place: string,
): Promise<{ ask: Ask; data: readonly Uint8Array[] }> {
  try {
    const found = await binding.ggufOpen(request, data)
    return { ask: JSON.parse(found.ask), data: found.data }
  } catch (error) {
    throw errorFrom(error, 'internal', place)
  }
}

async function opened(
  store: Store,
  heads: readonly Head[],
  done: Done,
  data: readonly Uint8Array[],
): Promise<Gguf> {
  const names = heads.map(({ name }) => name)
  const named = <T extends { readonly file: number }>(second: T | null) =>
    second && { ...second, file: names[second.file] ?? '' }
  const identities = await Promise.all(names.map((name) => store.identity(name)))
  const tensors = done.tensors.map(({ file, restore, ...tensor }) => ({
    ...tensor,
    file: names[file] ?? '',
    ...(restore ? { restore: { ...restore, second: named(restore.second) } } : {}),
  }))
  const bytes = data.map((text, i) => [done.texts[i] ?? '', text] as const)
  const problems = done.problems.map(({ name, code, message }) => {
    const known = CODES.find((one): one is ErrorCode => one === code) ?? 'internal'
    return [name, new LowbitError(known, message, { place: `${store.place}/${names[0]}` })] as const
  })
  return {
    store: textStore(store, names, new Map<string, Text>([...bytes, ...problems])),
    tensors,
    files: heads.map(({ name, bytes: length }, i) => ({
      name,
      bytes: length,
      identity: identities[i] ?? '',
      metadata: i === 0 ? done.metadata : {},
    })),
    container: `GGUF v${done.version}${done.mix === null ? '' : `, ${done.mix}`}`,
  }
}
