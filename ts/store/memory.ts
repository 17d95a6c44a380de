/** A store in memory: for tests, and for pages that quantize without touching a disk. */
import { LowbitError } from '../error.ts'
import {
  checkName,
  checkRange,
  type Range,
  type Release,
  type Store,
  type Writing,
} from './store.ts'

/** A store whose files can be looked at. */
export interface MemoryStore extends Store {
  /** The finished files. */
  readonly files: ReadonlyMap<string, Uint8Array>
}

/**
 * Holds files in memory.
 *
 * @example
 * const out = memoryStore()
 * await quantize('https://example.org/model/', { out })
 * const bytes = out.files.get('model.safetensors')
 */
export function memoryStore(
  files: Iterable<readonly [string, Uint8Array]> = [],
  place = 'memory',
): MemoryStore {
  return new Memory(files, place)
}

class Memory implements MemoryStore {
  readonly files: Map<string, Uint8Array>
  readonly place: string
  readonly #begun = new Map<string, Growing>()
  readonly #versions = new Map<string, number>()
  #locked = false

  constructor(files: Iterable<readonly [string, Uint8Array]>, place: string) {
    this.files = new Map(files)
    this.place = place
  }

  async list(): Promise<readonly string[]> {
    return [...this.files.keys()].toSorted()
  }

  async size(name: string): Promise<number> {
    return this.#file(name).length
  }

  async identity(name: string): Promise<string> {
    return `${this.#file(name).length}:${this.#versions.get(name) ?? 0}`
  }

  async read(name: string, range?: Range): Promise<Uint8Array> {
    const file = this.#file(name)
    if (!range) return file.slice()
    checkRange(range, file.length, `${this.place}/${name}`)
    return file.slice(range.offset, range.offset + range.length)
  }

  async begin(name: string, bytes: number): Promise<Writing> {
    checkName(name)
    const old = this.#begun.get(name) ?? new Growing(this.files.get(name))
    this.#begun.set(name, old)
    return this.#writing(name, old, bytes)
  }

  async remove(name: string): Promise<void> {
    this.files.delete(name)
    this.#begun.delete(name)
  }

  async free(): Promise<number> {
    return Infinity
  }

  async lock(): Promise<Release> {
    if (this.#locked) throw new LowbitError('locked', `${this.place} is already being written`)
    this.#locked = true
    return async () => {
      this.#locked = false
    }
  }

  #file(name: string): Uint8Array {
    checkName(name)
    const file = this.files.get(name)
    if (file) return file
    throw new LowbitError('not-found', 'The file does not exist', {
      place: `${this.place}/${name}`,
    })
  }

  #writing(name: string, buffer: Growing, bytes: number): Writing {
    const place = `${this.place}/${name}`
    return {
      write: async (offset, data) => {
        checkRange({ offset, length: data.length }, bytes, place)
        buffer.write(offset, data)
      },
      read: async (range) => {
        checkRange(range, buffer.length, place)
        return buffer.bytes().slice(range.offset, range.offset + range.length)
      },
      flush: async () => undefined,
      commit: async () => {
        checkRange({ offset: 0, length: bytes }, buffer.length, place)
        this.#begun.delete(name)
        this.files.set(name, buffer.bytes().slice(0, bytes))
        this.#versions.set(name, (this.#versions.get(name) ?? 0) + 1)
      },
      suspend: async () => undefined,
      abort: async () => {
        this.#begun.delete(name)
      },
    }
  }
}

/** Bytes that can be written anywhere; what was skipped is zero, as on a disk. */
class Growing {
  length: number
  #bytes: Uint8Array

  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#bytes = bytes.slice()
    this.length = bytes.length
  }

  write(offset: number, data: Uint8Array): void {
    const end = offset + data.length
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2))
      grown.set(this.#bytes)
      this.#bytes = grown
    }
    this.#bytes.set(data, offset)
    this.length = Math.max(this.length, end)
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.length)
  }
}
