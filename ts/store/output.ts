/**
 * A folder that appears at once. Everything is written into `<out>.partial/`, which outlives a
 * crash and is resumed from; one rename publishes it.
 *
 * ```text
 * out.partial/model/         becomes out/
 * out.partial/scratch/       activations between blocks
 * out.partial/journal.jsonl  what is durable
 * out.partial/lock           who works on it
 * ```
 * An output that is named as a .gguf file becomes that file, or its splits, in the same folder.
 */
import * as nodeFs from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { textOf } from '../bytes.ts'
import { errorFrom, LowbitError } from '../error.ts'
import type { Journal, Output, OutputOptions } from '../host.ts'
import { exists, type FileSystem, isInside, syncFolder, writeError } from './fs-write.ts'
import { fsStore } from './fs.ts'

/** Longest journal that is read: a line for each block. */
const JOURNAL_BYTES_MAX = 256 << 20

/** Opens a folder for writing a model to; `output-path` or `locked` when it cannot be. */
export async function fsOutput(
  folder: string,
  options: OutputOptions,
  fs: FileSystem = nodeFs,
): Promise<Output> {
  const place = resolve(folder)
  const partial = `${place}.partial`
  await checkPlace(fs, place, options)
  const parts = fsStore(partial, fs)
  const release = await parts.lock()
  const model = join(partial, 'model')
  return {
    place,
    store: fsStore(model, fs),
    scratch: fsStore(join(partial, 'scratch'), fs),
    journal: fsJournal(join(partial, 'journal.jsonl'), model, fs),
    async clear() {
      for (const part of ['model', 'scratch', 'journal.jsonl']) {
        await fs.rm(join(partial, part), { recursive: true, force: true })
      }
    },
    async publish() {
      try {
        await syncFolder(fs, model)
        if (isFile(place)) await moveAll(fs, model, dirname(place))
        else await replace(fs, model, place)
        await syncFolder(fs, dirname(place))
        await fs.rm(partial, { recursive: true, force: true })
      } catch (error) {
        throw writeError(error, place)
      }
    },
    close: release,
  }
}

async function checkPlace(fs: FileSystem, place: string, options: OutputOptions): Promise<void> {
  const real = await realPlace(fs, place)
  for (const input of options.inputs) {
    // An address is no path, and nothing can be written into it.
    const source = await fs.realpath(input).catch(() => undefined)
    if (source === undefined) continue
    if (real === source) throw refused(place, 'is the input')
    if (isInside(real, source)) throw refused(place, 'is inside the input')
    if (isInside(source, real)) throw refused(place, 'holds the input')
  }
  await checkReplaceable(fs, place, options.force)
}

/** Whether an output is a file and not a folder. */
function isFile(place: string): boolean {
  return /\.gguf$/i.test(place)
}

/** Moves what is in a folder into another. */
async function moveAll(fs: FileSystem, from: string, to: string): Promise<void> {
  for (const name of await fs.readdir(from)) await fs.rename(join(from, name), join(to, name))
}

/** Refuses to write over a file, or over splits of the same name. */
async function checkFile(fs: FileSystem, place: string, force: boolean): Promise<void> {
  const stat = await fs.stat(place).catch(() => undefined)
  if (stat?.isDirectory()) throw refused(place, 'is a folder')
  const stem = basename(place).replace(/\.gguf$/i, '')
  const names = await fs.readdir(dirname(place)).catch((): string[] => [])
  const same = (name: string): boolean =>
    isFile(name) && name.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, '') === stem
  const taken = names.find(same)
  if (taken !== undefined && !force) {
    throw refused(join(dirname(place), taken), 'exists', 'use --force to replace it')
  }
}

/** Whether a file's name says that it is of a model. */
function isModel(name: string): boolean {
  return name === 'config.json' || isFile(name)
}

async function checkReplaceable(fs: FileSystem, place: string, force: boolean): Promise<void> {
  if (isFile(place)) return checkFile(fs, place, force)
  const stat = await fs.stat(place).catch(() => undefined)
  if (!stat) return
  if (!stat.isDirectory()) throw refused(place, 'is a file')
  const names = await fs.readdir(place)
  if (names.length === 0) return
  if (!force) throw refused(place, 'exists and is not empty', 'use --force to replace it')
  // Force is for replacing a model, not for deleting whatever a slip of the hand names.
  if (!names.some(isModel)) throw refused(place, 'holds something that is not a model')
}

/** Where a path that may not exist yet will be. */
async function realPlace(fs: FileSystem, place: string): Promise<string> {
  const rest: string[] = []
  for (let path = place; ; path = dirname(path)) {
    const real = await fs.realpath(path).catch(() => undefined)
    if (real !== undefined) return join(real, ...rest)
    if (path === dirname(path)) return place
    rest.unshift(basename(path))
  }
}

async function replace(fs: FileSystem, from: string, to: string): Promise<void> {
  if (!(await exists(fs, to))) return fs.rename(from, to)
  const old = `${to}.replaced`
  await fs.rm(old, { recursive: true, force: true })
  await fs.rename(to, old)
  await fs.rename(from, to)
  await fs.rm(old, { recursive: true, force: true })
}

function fsJournal(path: string, model: string, fs: FileSystem): Journal {
  return {
    async lines() {
      // Published, and interrupted before the rest was deleted: nothing is left to go on with.
      if (!(await exists(fs, model))) return []
      const text = await readJournal(path, fs)
      const whole = text.lastIndexOf('\n') + 1
      // A line that a crash cut off is taken back, so that the next one begins on its own.
      if (whole < text.length)
        await truncate(fs, path, new TextEncoder().encode(text.slice(0, whole)))
      return text.slice(0, whole).split('\n').slice(0, -1)
    },
    async append(line) {
      const isNew = !(await exists(fs, path))
      try {
        const handle = await fs.open(path, 'a')
        try {
          await handle.writeFile(`${line}\n`)
          await handle.sync()
        } finally {
          await handle.close()
        }
        if (isNew) await syncFolder(fs, dirname(path))
      } catch (error) {
        throw writeError(error, path)
      }
    },
  }
}

async function readJournal(path: string, fs: FileSystem): Promise<string> {
  try {
    const { size } = await fs.stat(path)
    if (size > JOURNAL_BYTES_MAX) throw corrupt(path, `has ${size} bytes`)
    const handle = await fs.open(path, 'r')
    const bytes = await handle.readFile().finally(() => handle.close())
    // A torn line may end inside a character.
    return (
      textOf(bytes.subarray(0, bytes.lastIndexOf(10) + 1), 'resume-corrupt', path) + torn(bytes)
    )
  } catch (thrown) {
    const error = errorFrom(thrown, 'io', path)
    if (error.code === 'not-found') return ''
    throw error
  }
}

function torn(bytes: Uint8Array): string {
  return bytes.length > 0 && bytes.at(-1) !== 10 ? '?' : ''
}

async function truncate(fs: FileSystem, path: string, keep: Uint8Array): Promise<void> {
  const handle = await fs.open(path, 'r+')
  try {
    await handle.truncate(keep.length)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function refused(place: string, why: string, remedy = 'choose another output'): LowbitError {
  return new LowbitError('output-path', `The output ${why}`, { place, remedy })
}

function corrupt(path: string, why: string): LowbitError {
  return new LowbitError('resume-corrupt', `The journal ${why}`, {
    place: path,
    remedy: 'start again with --fresh',
  })
}
