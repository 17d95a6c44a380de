/**
 * A set on disk: one sample to a line, and beside it a manifest that says how it was made. Nothing
 * in either is a time or a folder of this machine, so that the same call writes the same bytes.
 *
 * ```text
 * set.jsonl           {"text": …, "language": "en", "tokens": […]}   or messages instead of text
 * set.manifest.json   version, options, sources with their digests, tokenizer, figures
 * ```
 */
import { isObject, type Json, objectOf, textOf } from '../bytes.ts'
import { errorFrom, LowbitError } from '../error.ts'
import type { Hash } from '../host.ts'
import { readLimited, type Store } from '../store/store.ts'
import type { Sample } from './pack.ts'

/** Where a set is written. */
export interface Target {
  readonly store: Store
  readonly file: string
}

/** Longest manifest that is read. */
const MANIFEST_BYTES_MAX = 64 << 20

/** Name of the manifest of a set: `set.manifest.json` of `set.jsonl`. */
export function manifestName(file: string): string {
  return `${file.replace(/\.jsonl$/i, '')}.manifest.json`
}

/** Refuses a place that is taken, or that is one of the sources. */
export async function checkTarget(
  { store, file }: Target,
  sources: readonly string[],
  force: boolean,
): Promise<void> {
  const place = `${store.place}/${file}`
  if (!/\.jsonl$/i.test(file)) {
    throw new LowbitError('output-path', 'A set is written as JSONL', {
      place,
      remedy: 'end its name with .jsonl',
    })
  }
  if (sources.includes(place)) {
    throw new LowbitError('output-path', 'The output is one of the sources', {
      place,
      remedy: 'choose another output',
    })
  }
  for (const name of force ? [] : [file, manifestName(file)]) {
    if (!(await isThere(store, name))) continue
    throw new LowbitError('output-path', 'The output exists', {
      place: `${store.place}/${name}`,
      remedy: 'use --force to replace it',
    })
  }
}

async function isThere(store: Store, name: string): Promise<boolean> {
  try {
    await store.size(name)
    return true
  } catch (thrown) {
    if (errorFrom(thrown, 'io').code === 'not-found') return false
    throw thrown
  }
}

/** Lines of a set. */
export function setText(samples: readonly Sample[]): string {
  return samples
    .map(({ content, language, tokens }) => {
      const body = typeof content === 'string' ? { text: content } : { messages: content }
      const ids = tokens ? { tokens: Array.from(tokens) } : {}
      return `${JSON.stringify({ ...body, language, ...ids })}\n`
    })
    .join('')
}

/** Writes a set and then its manifest, each of which appears whole; gives the manifest's place. */
export async function saveSet(
  { store, file }: Target,
  text: string,
  { manifest, hash }: { manifest: (sha256: string) => Json; hash: Hash },
): Promise<string> {
  const bytes = new TextEncoder().encode(text)
  hash.update(bytes)
  const beside = `${JSON.stringify(manifest(hash.hex()), undefined, 2)}\n`
  const release = await store.lock()
  try {
    await write(store, file, bytes)
    await write(store, manifestName(file), new TextEncoder().encode(beside))
  } finally {
    await release()
  }
  return `${store.place}/${manifestName(file)}`
}

async function write(store: Store, name: string, bytes: Uint8Array): Promise<void> {
  const writing = await store.begin(name, bytes.length)
  try {
    await writing.write(0, bytes)
    await writing.commit()
  } catch (error) {
    await writing.abort()
    throw error
  }
}

/** What a set's manifest says about its tokens. */
export interface SetFacts {
  readonly samples: number
  readonly length: number
  /** SHA-256 of the tokenizer.json whose ids the set holds; none for a set of texts. */
  readonly tokenizer: string | undefined
  /** SHA-256 of the set. */
  readonly sha256: unknown
}

/** Reads the manifest beside a file; nothing where there is none. `dataset` when it is damaged. */
export async function readManifest(store: Store, file: string): Promise<SetFacts | undefined> {
  const name = manifestName(file)
  const place = `${store.place}/${name}`
  if (!/\.jsonl$/i.test(file) || !(await isThere(store, name))) return undefined
  const text = textOf(await readLimited(store, name, MANIFEST_BYTES_MAX), 'dataset', place)
  const { set, model } = objectOf(text, 'dataset', place)
  const { length, tokens, sha256 } = isObject(set) ? set : {}
  const tokenizer = isObject(model) ? model['tokenizer'] : undefined
  if (typeof tokens === 'number' && typeof length === 'number' && length > 0) {
    // Texts are counted by what they will fill.
    const samples = Math.max(1, Math.floor(tokens / length))
    const digest = typeof tokenizer === 'string' ? tokenizer : undefined
    return { samples, length, tokenizer: digest, sha256 }
  }
  throw new LowbitError('dataset', 'The manifest does not describe a set', {
    place,
    remedy: 'make the set again, or delete the manifest to read its texts',
  })
}
