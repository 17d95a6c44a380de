/**
 * Some files of a store, and texts beside them that the store keeps in another form: what a GGUF
 * file says in its metadata looks like the files of a checkpoint.
 */
import { LowbitError, quote } from '../error.ts'
import { ReadOnlyStore } from './read-only.ts'
import { checkRange, type Range, type Store } from './store.ts'

/** What a text is: its bytes, or why there is none. */
export type Text = Uint8Array | LowbitError

/** Texts over a store, of whose own files only the named ones are seen; nothing is written. */
export function textStore(
  base: Store,
  files: readonly string[],
  texts: ReadonlyMap<string, Text>,
): Store {
  return new Texts(base, files, texts)
}

class Texts extends ReadOnlyStore {
  readonly #base: Store
  readonly #files: readonly string[]
  readonly #texts: ReadonlyMap<string, Text>

  constructor(base: Store, files: readonly string[], texts: ReadonlyMap<string, Text>) {
    super(base.place, 'A model is not written into')
    this.#base = base
    this.#files = files
    this.#texts = texts
  }

  async list(): Promise<readonly string[]> {
    const texts = [...this.#texts].filter(([, text]) => text instanceof Uint8Array)
    return [...texts.map(([name]) => name), ...this.#files].toSorted()
  }

  async size(name: string): Promise<number> {
    return this.#text(name)?.length ?? this.#base.size(name)
  }

  /** A text changes with the files that it was read from. */
  async identity(name: string): Promise<string> {
    const text = this.#text(name)
    const names = text ? this.#files : [name]
    const identities = await Promise.all(names.map((file) => this.#base.identity(file)))
    return text ? `${text.length}:${identities.join(',')}` : identities.join(',')
  }

  async read(name: string, range?: Range): Promise<Uint8Array> {
    const text = this.#text(name)
    if (!text) return this.#base.read(name, range)
    if (!range) return text.slice()
    checkRange(range, text.length, `${this.place}/${name}`)
    return text.slice(range.offset, range.offset + range.length)
  }

  /** The bytes of a text, or nothing for a file of the store. */
  #text(name: string): Uint8Array | undefined {
    const text = this.#texts.get(name)
    if (text instanceof LowbitError) throw text
    if (text || this.#files.includes(name)) return text
    throw new LowbitError('not-found', `There is no file ${quote(name)}`, { place: this.place })
  }
}
