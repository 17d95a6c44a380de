/** A lock file: who works on a folder, so that a second process does not. */
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { LowbitError } from '../error.ts'
import type { FileSystem } from './fs-write.ts'
import type { Release } from './store.ts'

/** Name of the lock file. */
export const LOCK = 'lock'

interface Owner {
  readonly pid: number
  readonly host: string
  /** Start time of the process, where the system tells: a number can be given out again. */
  readonly started: string
}

/** Creates the lock file, taking over from a process that has died. */
export async function lockFile(fs: FileSystem, folder: string): Promise<Release> {
  const path = join(folder, LOCK)
  const mine = JSON.stringify(await ownerOf(process.pid))
  for (let attempt = 0; attempt < 3; attempt++) {
    if (await create(fs, path, mine)) return () => fs.rm(path, { force: true })
    await clearStale(fs, path)
  }
  throw locked(path, 'another process')
}

async function create(fs: FileSystem, path: string, text: string): Promise<boolean> {
  // Written aside and linked, so that nobody ever sees the lock without its owner in it.
  const aside = `${path}.${process.pid}`
  const handle = await fs.open(aside, 'w')
  try {
    await handle.writeFile(text)
  } finally {
    await handle.close()
  }
  try {
    await fs.link(aside, path)
    return true
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false
    // A file system without links: there the lock is empty for a moment.
    return createEmpty(fs, path, text)
  } finally {
    await fs.rm(aside, { force: true })
  }
}

async function createEmpty(fs: FileSystem, path: string, text: string): Promise<boolean> {
  try {
    const handle = await fs.open(path, 'wx')
    await handle.writeFile(text).finally(() => handle.close())
    return true
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false
    throw error
  }
}

async function clearStale(fs: FileSystem, path: string): Promise<void> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return
  const owner = parseOwner(text)
  if (owner && (await isAlive(owner))) throw locked(path, `process ${owner.pid} on ${owner.host}`)
  // Another process may have taken over in between: only the stale file is removed.
  const aside = `${path}.stale.${process.pid}`
  await fs.rename(path, aside).catch(() => undefined)
  const moved = await readFile(aside, 'utf8').catch(() => undefined)
  if (moved !== undefined && moved !== text) await fs.link(aside, path).catch(() => undefined)
  await fs.rm(aside, { force: true })
}

async function isAlive(owner: Owner): Promise<boolean> {
  if (owner.host !== hostname()) return true
  try {
    process.kill(owner.pid, 0)
  } catch (error) {
    if (isCode(error, 'ESRCH')) return false
  }
  const now = await ownerOf(owner.pid)
  return owner.started === '' || now.started === '' || now.started === owner.started
}

async function ownerOf(pid: number): Promise<Owner> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // The name in parentheses may hold spaces; the start time is the 20th field after it.
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  return { pid, host: hostname(), started }
}

function parseOwner(text: string): Owner | undefined {
  try {
    const owner: unknown = JSON.parse(text)
    if (typeof owner !== 'object' || owner === null) return undefined
    if (!('pid' in owner) || !('host' in owner) || !('started' in owner)) return undefined
    return { pid: Number(owner.pid), host: String(owner.host), started: String(owner.started) }
  } catch {
    return undefined
  }
}

function locked(path: string, by: string): LowbitError {
  return new LowbitError('locked', `Being written by ${by}`, {
    place: path,
    remedy: 'wait for it, or delete the lock file if that run has ended',
  })
}

function isCode(error: unknown, code: string): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === code
}
