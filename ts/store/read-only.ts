/** What stores have in common that are only read. */
import { LowbitError } from '../error.ts'
import type { Range, Release, Store, Writing } from './store.ts'

/** A store that refuses to be written, with a reason. */
export abstract class ReadOnlyStore implements Store {
  readonly place: string
  readonly #why: string

  constructor(place: string, why: string) {
    this.place = place
    this.#why = why
  }

  abstract list(): Promise<readonly string[]>
  abstract size(name: string): Promise<number>
  abstract identity(name: string): Promise<string>
  abstract read(name: string, range?: Range): Promise<Uint8Array>

  begin(): Promise<Writing> {
    return this.#refuse()
  }

  remove(): Promise<void> {
    return this.#refuse()
  }

  async free(): Promise<number> {
    return 0
  }

  lock(): Promise<Release> {
    return this.#refuse()
  }

  #refuse(): Promise<never> {
    return Promise.reject(new LowbitError('output-path', this.#why, { place: this.place }))
  }
}
