/**
 * A folder on disk. Reads are positioned and re-check the file they began with, so a file that
 * changes under a long run is noticed; nothing is mapped into memory, because a mapped file that
 * is cut short kills the process. Files that are being written carry a suffix until they are whole.
 */
import * as nodeFs from 'node:fs/promises'
import type { Dirent, Stats } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { errorFrom, LowbitError, quote } from '../error.ts'
import {
  exists,
  type FileSystem,
  FsWriting,
  isInside,
  makeFolder,
  readAll,
  writeError,
} from './fs-write.ts'
import { lockFile, LOCK } from './lock.ts'
import {
  checkName,
  checkRange,
  type GuardedStore,
  type Range,
  type Release,
  type Writing,
} from './store.ts'

/** Suffix of a file that has begun and is not whole. */
const BEGUN = '.begun'

/** Deepest folder below the store that is listed. */
const DEPTH_MAX = 3

type Handle = Awaited<ReturnType<FileSystem['open']>>

/**
 * Opens a folder; it is created by the first file that is begun in it.
 *
 * @example
 * const model = await load(fsStore('./model'))
 */
export function fsStore(folder: string, fs: FileSystem = nodeFs): GuardedStore {
  return new FsStore(resolve(folder), fs)
}

class FsStore implements GuardedStore {
  readonly place: string
  readonly #fs: FileSystem
  readonly #seen = new Map<string, string>()

  constructor(folder: string, fs: FileSystem) {
    this.place = folder
    this.#fs = fs
  }

  async list(): Promise<readonly string[]> {
    const names: string[] = []
    await this.#walk('', 0, names)
    return names.toSorted()
  }

  async size(name: string): Promise<number> {
    return (await this.#stat(name)).size
  }

  async identity(name: string): Promise<string> {
    return identityOf(await this.#stat(name))
  }

  async read(name: string, range?: Range): Promise<Uint8Array> {
    const place = this.#path(name)
    const handle = await this.#open(place, 'r')
    try {
      const stat = await handle.stat()
      this.#checkUnchanged(name, stat)
      const wanted = range ?? { offset: 0, length: stat.size }
      checkRange(wanted, stat.size, place)
      return await readAll(handle, wanted, place)
    } catch (error) {
      throw errorFrom(error, 'io', place)
    } finally {
      await handle.close()
    }
  }

  async begin(name: string, bytes: number): Promise<Writing> {
    const path = this.#path(name)
    const begun = path + BEGUN
    try {
      await makeFolder(this.#fs, dirname(path))
      if (!(await exists(this.#fs, begun)) && (await exists(this.#fs, path))) {
        await this.#fs.rename(path, begun)
      }
      const handle = await this.#fs.open(begun, nodeFs.constants.O_RDWR | nodeFs.constants.O_CREAT)
      return new FsWriting(this.#fs, handle, { path, begun, bytes })
    } catch (error) {
      throw writeError(error, path)
    }
  }

  async remove(name: string): Promise<void> {
    this.#seen.delete(name)
    const path = this.#path(name)
    await this.#fs.rm(path, { force: true, recursive: true })
    await this.#fs.rm(path + BEGUN, { force: true })
  }

  async free(): Promise<number> {
    for (let folder = this.place; ; folder = dirname(folder)) {
      try {
        const { bavail, bsize } = await this.#fs.statfs(folder)
        return bavail * bsize
      } catch {
        if (folder === dirname(folder)) return Infinity
      }
    }
  }

  async lock(): Promise<Release> {
    try {
      await makeFolder(this.#fs, this.place)
      return await lockFile(this.#fs, this.place)
    } catch (error) {
      throw writeError(error, this.place)
    }
  }

  async guard(name: string): Promise<void> {
    checkName(name)
    const path = this.#path(name)
    const root = await this.#real(this.place)
    const target = await this.#real(path)
    if (root === undefined || target === undefined || isCacheBlob(target, root)) return
    if (!isInside(target, root)) throw escape(name, `is a link to ${quote(target)}`)
    const { nlink } = await this.#fs.stat(target)
    if (nlink > 1) throw escape(name, `shares its bytes with ${nlink - 1} other file names`)
  }

  /** Where a path leads; nothing when nothing is there. */
  async #real(path: string): Promise<string | undefined> {
    try {
      return await this.#fs.realpath(path)
    } catch (thrown) {
      const error = errorFrom(thrown, 'io', path)
      if (error.code === 'not-found') return undefined
      throw error
    }
  }

  #path(name: string): string {
    checkName(name)
    return join(this.place, name)
  }

  async #stat(name: string): Promise<Stats> {
    const path = this.#path(name)
    try {
      const stat = await this.#fs.stat(path)
      if (!stat.isFile()) throw new LowbitError('not-found', 'Not a regular file', { place: path })
      this.#checkUnchanged(name, stat)
      return stat
    } catch (error) {
      throw errorFrom(error, 'io', path)
    }
  }

  async #open(path: string, flags: string): Promise<Handle> {
    try {
      return await this.#fs.open(path, flags)
    } catch (error) {
      throw errorFrom(error, 'io', path)
    }
  }

  #checkUnchanged(name: string, stat: Stats): void {
    const now = identityOf(stat)
    const before = this.#seen.get(name)
    if (before !== undefined && before !== now) {
      throw new LowbitError('file-changed', `Length and time were ${before} and are now ${now}`, {
        place: this.#path(name),
        remedy: 'run again when nothing writes to it',
      })
    }
    this.#seen.set(name, now)
  }

  async #walk(folder: string, depth: number, names: string[]): Promise<void> {
    const entries = await this.#entries(folder)
    for (const entry of entries) {
      const name = folder + entry.name
      if (entry.name.startsWith('.') || entry.name.endsWith(BEGUN) || entry.name === LOCK) continue
      const stat = await this.#statOrNothing(join(this.place, name))
      if (stat?.isFile()) names.push(name)
      // A linked folder is not entered: it may lead back up.
      else if (entry.isDirectory() && depth < DEPTH_MAX) {
        await this.#walk(`${name}/`, depth + 1, names)
      }
    }
  }

  /** A link that leads nowhere is no file; any other failure must not hide one. */
  async #statOrNothing(path: string): Promise<Stats | undefined> {
    try {
      return await this.#fs.stat(path)
    } catch (thrown) {
      const error = errorFrom(thrown, 'io', path)
      if (error.code === 'not-found') return undefined
      throw error
    }
  }

  async #entries(folder: string): Promise<Dirent[]> {
    const path = join(this.place, folder)
    try {
      return await readEntries(this.#fs, path)
    } catch (error) {
      throw errorFrom(error, 'io', path)
    }
  }
}

function readEntries(fs: FileSystem, path: string): Promise<Dirent[]> {
  return fs.readdir(path, { withFileTypes: true })
}

function identityOf(stat: Stats): string {
  return `${stat.size}:${stat.mtimeMs}`
}

/** The Hugging Face cache keeps `<model>/snapshots/<revision>` as links into `<model>/blobs`. */
function isCacheBlob(target: string, root: string): boolean {
  const snapshots = dirname(root)
  if (basename(snapshots) !== 'snapshots') return false
  return dirname(target) === join(dirname(snapshots), 'blobs')
}

function escape(name: string, why: string): LowbitError {
  return new LowbitError('path-escape', `The index names ${quote(name)}, which ${why}`, {
    remedy: "put a copy into the model's folder",
  })
}
