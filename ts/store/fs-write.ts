/** Files of a folder that are being written: synced, then renamed into their place. */
import type * as nodeFs from 'node:fs/promises'
import { dirname, sep } from 'node:path'
import { errorFrom, LowbitError } from '../error.ts'
import { checkRange, type Range, type Writing } from './store.ts'

/** The calls a folder store makes; a test hands in ones that fail. */
export type FileSystem = Pick<
  typeof nodeFs,
  'open' | 'lstat' | 'stat' | 'realpath' | 'readdir' | 'rename' | 'rm' | 'mkdir' | 'statfs' | 'link'
>

type Handle = Awaited<ReturnType<FileSystem['open']>>

/** What is being written, and where it will appear. */
export interface Target {
  readonly path: string
  readonly begun: string
  readonly bytes: number
}

/** A begun file. */
export class FsWriting implements Writing {
  readonly #fs: FileSystem
  readonly #handle: Handle
  readonly #target: Target
  #dirty = true
  #closed = false

  constructor(fs: FileSystem, handle: Handle, target: Target) {
    this.#fs = fs
    this.#handle = handle
    this.#target = target
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    checkRange({ offset, length: data.length }, this.#target.bytes, this.#target.path)
    this.#dirty = true
    try {
      // A disk may take less than it was given without calling it an error.
      for (let done = 0; done < data.length;) {
        const { bytesWritten } = await this.#handle.write(
          data,
          done,
          data.length - done,
          offset + done,
        )
        if (bytesWritten === 0) throw new LowbitError('io', 'The disk took no bytes')
        done += bytesWritten
      }
    } catch (error) {
      throw writeError(error, this.#target.path)
    }
  }

  async read(range: Range): Promise<Uint8Array> {
    checkRange(range, this.#target.bytes, this.#target.path)
    try {
      return await readAll(this.#handle, range, this.#target.path)
    } catch (error) {
      throw errorFrom(error, 'io', this.#target.path)
    }
  }

  async flush(): Promise<void> {
    if (!this.#dirty) return
    try {
      await this.#handle.sync()
    } catch (error) {
      throw writeError(error, this.#target.path)
    }
    this.#dirty = false
  }

  async commit(): Promise<void> {
    const { path, begun, bytes } = this.#target
    try {
      const { size } = await this.#handle.stat()
      if (size < bytes) {
        throw new LowbitError('truncated', `Wrote ${size} of ${bytes} bytes`, { place: path })
      }
      if (size > bytes) await this.#handle.truncate(bytes)
      await this.flush()
      await this.suspend()
      await this.#fs.rename(begun, path)
      await syncFolder(this.#fs, dirname(path))
    } catch (error) {
      throw writeError(error, path)
    }
  }

  async suspend(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#handle.close()
  }

  async abort(): Promise<void> {
    await this.suspend()
    await this.#fs.rm(this.#target.begun, { force: true })
  }
}

/** Makes a rename survive a power cut; Windows has no such call and needs none. */
export async function syncFolder(fs: FileSystem, folder: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await fs.open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** An error of writing: what the place refuses is `output-path`, the rest is the disk's. */
export function writeError(error: unknown, path: string): LowbitError {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : ''
  const refused = ['EACCES', 'EPERM', 'EROFS', 'ENAMETOOLONG', 'ENOTDIR', 'EISDIR', 'EEXIST']
  if (!refused.includes(String(code))) return errorFrom(error, 'io', path)
  const what = error instanceof Error ? error.message : String(error)
  return new LowbitError('output-path', `Cannot write there (${what})`, {
    place: path,
    remedy: 'choose another output',
    cause: error,
  })
}

/**
 * Makes a folder and those above it; `output-path` where one cannot be made.
 *
 * One at a time from the first that is there: Node's own way down never returns where the system
 * says that a new folder's parent is missing although it is there, as below /proc.
 */
export async function makeFolder(fs: FileSystem, folder: string): Promise<void> {
  const missing: string[] = []
  let path = folder
  for (; !(await isFolder(fs, path)); path = dirname(path)) missing.unshift(path)
  for (const next of missing) {
    try {
      await fs.mkdir(next)
    } catch (error) {
      // Another process may have been faster.
      if (await isFolder(fs, next)) continue
      const written = writeError(error, next)
      if (written.code !== 'not-found') throw written
      throw new LowbitError('output-path', 'No folder can be made there', {
        place: next,
        remedy: 'choose another output',
        cause: error,
      })
    }
  }
}

/** Whether a folder is there; `output-path` when something else is. */
async function isFolder(fs: FileSystem, path: string): Promise<boolean> {
  const stat = await fs.stat(path).catch(() => undefined)
  if (stat?.isDirectory() || path === dirname(path)) return true
  if (stat === undefined) return false
  throw new LowbitError('output-path', 'A file is where a folder must be', {
    place: path,
    remedy: 'choose another output',
  })
}

/** Whether a path exists, whatever it is. */
export async function exists(fs: FileSystem, path: string): Promise<boolean> {
  return fs.lstat(path).then(
    () => true,
    () => false,
  )
}

/** Whether a resolved path is the folder or below it. */
export function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep)
}

/** Reads exactly a range, however little the system gives at a time. */
export async function readAll(handle: Handle, range: Range, place: string): Promise<Uint8Array> {
  const buffer = new Uint8Array(range.length)
  for (let done = 0; done < range.length;) {
    const { bytesRead } = await handle.read(buffer, done, range.length - done, range.offset + done)
    if (bytesRead === 0) {
      throw new LowbitError('truncated', `The file ended at byte ${range.offset + done}`, { place })
    }
    done += bytesRead
  }
  return buffer
}
