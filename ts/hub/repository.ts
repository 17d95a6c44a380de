/**
 * What a model on the hub consists of, as one commit has it. The routes (`/api/models/…/revision`,
 * `/api/models/…/tree`, pages of long lists) are `@huggingface/hub`'s to know, which runs in Node only.
 */
import { MODULE_WEIGHTS } from '../encode/dense.ts'
import { LowbitError, nearest, quote } from '../error.ts'
import type { Source } from '../host.ts'
import { fetchStore } from '../store/fetch.ts'
import { INDEX, shardsOf, SINGLE } from '../store/shards.ts'
import { checkName, type Store } from '../store/store.ts'
import { type Asked, endpointOf, type Hub, hubFetch, hubHeaders } from './access.ts'
import { type HubName, hubText } from './name.ts'

/** One file of a commit. */
export interface RepoFile {
  readonly path: string
  readonly bytes: number
  /** Name of its bytes in the cache: SHA-256 of a large file, git's SHA-1 of a small one. */
  readonly digest: string
}

/** A commit of a model. */
export interface Commit {
  readonly sha: string
  readonly files: readonly RepoFile[]
}

/** Most files of a model; a listing that goes on is not a model's. */
const FILES_MAX = 20_000

/** Texts beside weights: configuration, tokenizer, templates, card, licence, code for other tools. */
const TEXT =
  /\.(json|txt|model|jinja|md|py|tiktoken|vocab)$|(^|\/)(LICEN[CS]E|NOTICE|USE_POLICY)[^/]*$/i

/** Longest such text; the largest tokenizer known has about 35 MB. */
const TEXT_BYTES_MAX = 128 << 20

/** The commit of a revision with its files; what `hubFetch` throws, and `path-escape`. */
export async function commitOf(hub: Hub, name: HubName, asked: Asked): Promise<Commit> {
  try {
    return await listed(hub, name, asked)
  } catch (cause) {
    if (cause instanceof LowbitError) throw cause
    throw new LowbitError('io', 'The hub gives an answer that is not understood', {
      place: asked.name,
      remedy: 'check HF_ENDPOINT and whether the network asks for a login',
      cause,
    })
  }
}

async function listed(hub: Hub, { repo, revision }: HubName, asked: Asked): Promise<Commit> {
  const { listFiles, modelInfo } = await import('@huggingface/hub')
  const reach = { hubUrl: endpointOf(hub), fetch: hubFetch(hub, asked) }
  const { sha } = await modelInfo({ name: repo, revision, additionalFields: ['sha'], ...reach })
  if (!/^[\da-f]{40,64}$/.test(sha)) {
    throw new LowbitError('io', `The hub names the commit ${quote(sha)}`, { place: repo })
  }
  const files: RepoFile[] = []
  for await (const entry of listFiles({ repo, revision: sha, recursive: true, ...reach })) {
    if (entry.type !== 'file') continue
    checkName(entry.path)
    const { path, size: bytes } = entry
    files.push({ path, bytes, digest: checkDigest(entry.lfs?.oid ?? entry.oid ?? '', path) })
    if (files.length > FILES_MAX) {
      throw new LowbitError('unsupported', `The model has more than ${FILES_MAX} files`, {
        place: repo,
      })
    }
  }
  return { sha, files }
}

/** A digest becomes the name of a file. */
function checkDigest(digest: string, place: string): string {
  if (/^(?:[\da-f]{40}|[\da-f]{64})$/.test(digest)) return digest
  throw new LowbitError('io', `The hub gives the digest ${quote(digest)}`, { place })
}

/** The files of a commit, read by ranges where they are. */
export function remoteStore(hub: Hub, { repo }: HubName, { sha, files }: Commit): Store {
  return fetchStore(`${endpointOf(hub)}/${repo}/resolve/${sha}/`, {
    headers: hubHeaders(hub),
    names: files.map(({ path }) => path),
  })
}

/** A model read by ranges from the hub, nothing kept. */
export async function remoteSource(hub: Hub, name: HubName, asked: Asked): Promise<Source> {
  const commit = await commitOf(hub, name, asked)
  const store = remoteStore(hub, name, commit)
  const { file } = chosen(commit.files, name)
  return file === undefined ? { store } : { store, file }
}

/** What of a model is needed: its texts, and the weights in the form that is read. */
export interface Needed {
  readonly files: readonly RepoFile[]
  /** The one file of weights that was named, or that there is. */
  readonly file?: string
}

/** Texts of a commit: they come first, because the index says which weights there are. */
export function textsOf(files: readonly RepoFile[]): readonly RepoFile[] {
  return files.filter(({ path, bytes }) => TEXT.test(path) && bytes <= TEXT_BYTES_MAX)
}

/** Weights of a commit, once its texts are in a store. */
export async function weightsOf(
  files: readonly RepoFile[],
  name: HubName,
  texts: Store,
): Promise<Needed> {
  const { file, weights } = chosen(files, name)
  if (file !== undefined && weights) return { files: weights, file }
  const shards = weights ? new Set(weights.map(({ path }) => path)) : await shardsOf(texts)
  const wanted = ({ path }: RepoFile): boolean => shards.has(path) || MODULE_WEIGHTS.test(path)
  return { files: files.filter(wanted) }
}

interface Chosen {
  readonly file?: string
  /** Absent where an index decides. */
  readonly weights?: readonly RepoFile[]
}

function chosen(files: readonly RepoFile[], name: HubName): Chosen {
  const paths = files.map(({ path }) => path)
  const named = name.file ?? (name.tag === undefined ? undefined : tagged(paths, name))
  if (named !== undefined) return oneFile(files, named, name)
  if (paths.includes(SINGLE)) return { weights: files.filter(({ path }) => path === SINGLE) }
  if (paths.includes(INDEX)) return {}
  const plain = files.filter(({ path }) => /^[^/]+\.safetensors$/.test(path))
  return plain.length > 0 ? { weights: plain } : other(files, name)
}

/** Weights of a model that has none as safetensors. */
function other(files: readonly RepoFile[], name: HubName): Chosen {
  const paths = files.map(({ path }) => path)
  const [first, ...more] = wholes(paths)
  if (first !== undefined && more.length === 0) return oneFile(files, first, name)
  if (first !== undefined) throw which(`There are ${more.length + 1} GGUF files`, paths, name)
  const pickle = paths.find((path) => /\.(bin|pt|pth|ckpt)$/.test(path))
  if (pickle === undefined) return { weights: [] }
  throw new LowbitError('not-a-model', `${quote(pickle)} is a pickle, which is never opened`, {
    place: hubText(name),
    remedy: 'look for a revision or a copy of the model as safetensors',
  })
}

/** A file and, if it is the first part of one that is split, the other parts. */
function oneFile(files: readonly RepoFile[], file: string, name: HubName): Chosen {
  const parts = new RegExp(`^${escaped(file).replace(/-0+1-of-/, '-\\d+-of-')}$`)
  const weights = files.filter(({ path }) => path === file || parts.test(path))
  if (weights.some(({ path }) => path === file)) return { file, weights }
  const near = nearest(
    file,
    files.map(({ path }) => path),
  )
  throw new LowbitError('not-found', `The model has no file ${quote(file)}`, {
    place: hubText(name),
    remedy: `the nearest is ${quote(near ?? '')}`,
  })
}

/** GGUF files, those that are split by their first part; nothing that goes with a model. */
function wholes(paths: readonly string[]): readonly string[] {
  return paths.filter(
    (path) =>
      path.endsWith('.gguf') &&
      !/(^|\/)mmproj|imatrix/i.test(path) &&
      (/-0+1-of-\d+\.gguf$/.test(path) || !/-\d+-of-\d+\.gguf$/.test(path)),
  )
}

function tagged(paths: readonly string[], name: HubName): string {
  const { tag = '' } = name
  const word = new RegExp(`(^|[-_./])${escaped(tag)}([-./]|$)`, 'i')
  const [first, ...more] = wholes(paths).filter((path) => word.test(path.slice(0, -5)))
  if (first !== undefined && more.length === 0) return first
  const count = first === undefined ? 'No GGUF file is' : `${more.length + 1} GGUF files are`
  throw which(`${count} named ${quote(tag)}`, paths, name)
}

function which(what: string, paths: readonly string[], name: HubName): LowbitError {
  const list = wholes(paths)
  const more = list.length > 12 ? `, and ${list.length - 12} more` : ''
  return new LowbitError('option', what, {
    place: hubText(name),
    remedy: `name one as ${name.repo}/<file>: ${list.slice(0, 12).join(', ') || 'there is none'}${more}`,
  })
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)
}
