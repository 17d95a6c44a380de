/**
 * The cache that all tools of the hub share: `<cache>/models--owner--name/` with `blobs/<digest>`,
 * `snapshots/<commit>/<path>` as links to them and `refs/<revision>` with the commit's name.
 */
import { copyFile, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import * as nodeFs from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { bytesText } from '../bytes.ts'
import { LowbitError, throwIfAborted } from '../error.ts'
import type { Source } from '../host.ts'
import type { Watching } from '../watching.ts'
import { meter } from '../progress.ts'
import { makeFolder } from '../store/fs-write.ts'
import { fsStore } from '../store/fs.ts'
import { lockFile } from '../store/lock.ts'
import type { Release } from '../store/store.ts'
import { endpointOf, hubFetch } from './access.ts'
import { downloadFile } from './download.ts'
import type { Settings } from './environment.ts'
import { type HubName, hubText } from './name.ts'
import { type Commit, commitOf, type RepoFile, textsOf, weightsOf } from './repository.ts'

/** Files that come at the same time. */
const AT_ONCE = 4

/** Pause between two looks at a lock that another process holds. */
const LOCK_PAUSE_MS = 500

/** A model out of the cache; what is not there of it yet is fetched first. */
export async function cachedSource(
  settings: Settings,
  name: HubName,
  watching: Watching,
): Promise<Source> {
  const asked = { name: hubText(name), signal: watching.signal }
  let commit: Commit
  try {
    commit = await commitOf(settings, name, asked)
  } catch (error) {
    const known = await knownSource(settings, name)
    if (known && (settings.offline || isUnreachable(error))) return known
    throw error
  }
  return fetched(settings, name, commit, watching)
}

/** A model as an earlier call has left it in the cache; nothing is asked of the network. */
export async function knownSource(settings: Settings, name: HubName): Promise<Source | undefined> {
  const { root, snapshot } = folders(settings, name)
  const ref = await readFile(join(root, 'refs', name.revision), 'utf8').catch(() => name.revision)
  const sha = ref.trim()
  if (!/^[\da-f]{40,64}$/.test(sha) || !(await stat(snapshot(sha)).catch(() => undefined))) {
    return undefined
  }
  const store = fsStore(snapshot(sha))
  const files = (await store.list()).map((path) => ({ path, bytes: 0, digest: '' }))
  const { file } = await weightsOf(files, name, store)
  return file === undefined ? { store } : { store, file }
}

function isUnreachable(error: unknown): boolean {
  return error instanceof LowbitError && error.code === 'io'
}

interface Folders {
  /** Folder of the model. */
  readonly root: string
  readonly locks: string
  readonly snapshot: (sha: string) => string
}

function folders({ cache }: Settings, { repo }: HubName): Folders {
  const folder = `models--${repo.replace('/', '--')}`
  const root = join(cache, folder)
  return {
    root,
    locks: join(cache, '.locks', folder),
    snapshot: (sha) => join(root, 'snapshots', sha),
  }
}

async function fetched(
  settings: Settings,
  name: HubName,
  commit: Commit,
  watching: Watching,
): Promise<Source> {
  const { root, locks, snapshot } = folders(settings, name)
  const folder = snapshot(commit.sha)
  const store = fsStore(folder)
  const texts = textsOf(commit.files)
  await makeFolder(nodeFs, folder)
  const run = new Run(settings, name, commit, watching)
  // Two processes would fetch the same bytes twice, and into the same part.
  const release = await locked(locks, watching.signal)
  try {
    await run.fetch(root, texts)
    const { files, file } = await weightsOf(commit.files, name, store)
    await run.fetch(root, files)
    if (name.revision !== commit.sha) await writeRef(root, name.revision, commit.sha)
    return file === undefined ? { store } : { store, file }
  } finally {
    await release()
  }
}

/** Waits until nobody else fetches this model. */
async function locked(folder: string, signal: AbortSignal | undefined): Promise<Release> {
  await makeFolder(nodeFs, folder)
  for (;;) {
    throwIfAborted(signal)
    try {
      return await lockFile(nodeFs, folder)
    } catch (error) {
      if (!(error instanceof LowbitError && error.code === 'locked')) throw error
    }
    await pause(LOCK_PAUSE_MS)
  }
}

/** The downloads of one call, under one bar. */
class Run {
  readonly #settings: Settings
  readonly #name: HubName
  readonly #commit: Commit
  readonly #signal: AbortSignal | undefined
  readonly #report: ReturnType<typeof meter>

  constructor(settings: Settings, name: HubName, commit: Commit, watching: Watching) {
    this.#settings = settings
    this.#name = name
    this.#commit = commit
    this.#signal = watching.signal
    this.#report = meter(watching)
  }

  async fetch(root: string, files: readonly RepoFile[]): Promise<void> {
    const missing = await this.#missing(root, files)
    await this.#checkSpace(root, missing)
    const there = new Map<string, number>()
    const total = missing.reduce((sum, { bytes }) => sum + bytes, 0)
    const show = (path: string, bytes: number): void => {
      there.set(path, bytes)
      const done = Array.from(there.values()).reduce((sum, one) => sum + one, 0)
      this.#report({ stage: 'download', done, total })
    }
    await atOnce(missing, this.#signal, (file, signal) => this.#one(root, file, { show, signal }))
    for (const file of files) await this.#link(root, file)
  }

  async #missing(root: string, files: readonly RepoFile[]): Promise<readonly RepoFile[]> {
    const sizes = await Promise.all(
      files.map(({ digest }) => stat(join(root, 'blobs', digest)).catch(() => undefined)),
    )
    // Files with the same bytes are one blob.
    const seen = new Set<string>()
    return files.filter(({ bytes, digest }, i) => {
      if (sizes[i]?.size === bytes || seen.has(digest)) return false
      seen.add(digest)
      return true
    })
  }

  async #checkSpace(root: string, files: readonly RepoFile[]): Promise<void> {
    const needed = files.reduce((sum, { bytes }) => sum + bytes, 0)
    const free = await fsStore(root).free()
    if (free >= needed) return
    const what = `${bytesText(needed)} are to be fetched and ${bytesText(free)} are free`
    throw new LowbitError('disk-full', what, {
      place: root,
      remedy: 'free space, or set HF_HUB_CACHE to a folder on another disk',
    })
  }

  async #one(root: string, file: RepoFile, { show, signal }: Watched): Promise<void> {
    const path = join(root, 'blobs', file.digest)
    await makeFolder(nodeFs, dirname(path))
    const { repo } = this.#name
    const encoded = file.path.split('/').map(encodeURIComponent).join('/')
    await downloadFile({
      file,
      url: `${endpointOf(this.#settings)}/${repo}/resolve/${this.#commit.sha}/${encoded}`,
      path,
      fetch: hubFetch(this.#settings, { name: hubText(this.#name), signal }),
      signal,
      onBytes: (bytes) => show(file.path, bytes),
    })
  }

  async #link(root: string, { path, bytes, digest }: RepoFile): Promise<void> {
    const link = join(root, 'snapshots', this.#commit.sha, path)
    const found = await stat(link).catch(() => undefined)
    if (found?.size === bytes) return
    await makeFolder(nodeFs, dirname(link))
    const blob = join(root, 'blobs', digest)
    await rm(link, { force: true })
    try {
      await symlink(relative(dirname(link), blob), link)
    } catch {
      // Windows makes links only for some: there the file itself stands in the snapshot.
      await copyFile(blob, link)
    }
  }
}

interface Watched {
  readonly show: (path: string, bytes: number) => void
  readonly signal: AbortSignal
}

/** Works on some files at a time; when one fails, the others have stopped before it is thrown. */
async function atOnce(
  files: readonly RepoFile[],
  outer: AbortSignal | undefined,
  run: (file: RepoFile, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController()
  const abort = (): void => stop.abort()
  outer?.addEventListener('abort', abort, { once: true })
  throwIfAborted(outer)
  const failures: unknown[] = []
  const queue = [...files]
  const work = async (): Promise<void> => {
    for (let file = queue.shift(); file && !stop.signal.aborted; file = queue.shift()) {
      try {
        await run(file, stop.signal)
      } catch (error) {
        failures.push(error)
        abort()
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  outer?.removeEventListener('abort', abort)
  throwIfAborted(outer)
  if (failures.length > 0) throw failures[0]
}

async function writeRef(root: string, revision: string, sha: string): Promise<void> {
  const path = join(root, 'refs', revision)
  await makeFolder(nodeFs, dirname(path))
  const aside = `${path}.${process.pid}`
  await writeFile(aside, sha)
  await rename(aside, path)
}
