/**
 * One file from the hub to a disk: in order, hashed while it comes, gone on with after a break,
 * and under its final name only when every byte is known to be right.
 */
import { createHash, type Hash } from 'node:crypto'
import { open, rename, rm, stat } from 'node:fs/promises'
import * as nodeFs from 'node:fs/promises'
import { dirname } from 'node:path'
import { aborted, errorFrom, LowbitError } from '../error.ts'
import { syncFolder, writeError } from '../store/fs-write.ts'
import type { RepoFile } from './repository.ts'

/** Suffix of a file that is not whole; not the one of other tools, which may be writing theirs. */
const PART = '.lowbit-part'

/** Breaks in a row, without a byte between them, after which the line is given up. */
const BREAKS_MAX = 3

/** Pause after the first break; longer after later ones. */
const PAUSE_MS = 200

/** Bytes of a part that are hashed at a time when it is gone on with. */
const PIECE = 1 << 20

type Handle = Awaited<ReturnType<typeof open>>

/** One file to fetch. */
export interface Download {
  readonly file: RepoFile
  readonly url: string
  /** Final name. */
  readonly path: string
  readonly fetch: typeof fetch
  readonly signal: AbortSignal | undefined
  /** Gets the bytes that are there, again and again; fewer when a broken part is thrown away. */
  readonly onBytes: (bytes: number) => void
}

/** Fetches a file; `io`, `truncated`, `disk-full`, `aborted` and what `hubFetch` throws. */
export async function downloadFile(download: Download): Promise<void> {
  const part = download.path + PART
  const before = await sizeOf(part)
  try {
    if (before !== undefined && !(await attempt(download, part))) {
      // Another version may have left it, or a disk; what comes from the start is what counts.
      await rm(part, { force: true })
    } else if (before !== undefined) return
    if (await attempt(download, part)) return
  } catch (error) {
    throw thrown(error, download)
  }
  await rm(part, { force: true })
  throw new LowbitError('io', 'The bytes that came are not those that the hub announces', {
    place: download.url,
    remedy: 'run the same command again',
  })
}

/** Completes a part; false when its digest is wrong. */
async function attempt(download: Download, part: string): Promise<boolean> {
  const { file, path } = download
  const handle = await open(part, 'a+')
  try {
    const state = await stateOf(handle, file)
    await fill(handle, state, download)
    if (state.bytes !== file.bytes || state.hash.digest('hex') !== file.digest) return false
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(part, path)
  await syncFolder(nodeFs, dirname(path))
  return true
}

/** What has come of a file. */
interface State {
  bytes: number
  hash: Hash
}

async function stateOf(handle: Handle, file: RepoFile): Promise<State> {
  const { size } = await handle.stat()
  const state = { bytes: 0, hash: hashOf(file) }
  // More than the whole cannot be a part of it.
  if (size > file.bytes) await handle.truncate(0)
  const buffer = new Uint8Array(PIECE)
  for (; size <= file.bytes;) {
    const { bytesRead } = await handle.read(buffer, 0, PIECE, state.bytes)
    if (bytesRead === 0) break
    state.hash.update(buffer.subarray(0, bytesRead))
    state.bytes += bytesRead
  }
  return state
}

/** Large files go by SHA-256, small ones by the name that git gives their bytes. */
function hashOf({ digest, bytes }: RepoFile): Hash {
  if (digest.length === 64) return createHash('sha256')
  return createHash('sha1').update(`blob ${bytes}\0`)
}

async function fill(handle: Handle, state: State, download: Download): Promise<void> {
  const { file, onBytes, signal } = download
  onBytes(state.bytes)
  for (let breaks = 0; state.bytes < file.bytes;) {
    const before = state.bytes
    try {
      await receive(handle, state, download)
    } catch (error) {
      if (signal?.aborted) throw aborted(error)
      if (!isBreak(error)) throw error
    }
    breaks = state.bytes > before ? 0 : breaks + 1
    if (state.bytes < file.bytes && breaks >= BREAKS_MAX) {
      throw new LowbitError('truncated', `Only ${state.bytes} of ${file.bytes} bytes came`, {
        place: download.url,
        remedy: 'run the same command again; it goes on from there',
      })
    }
    await new Promise((wake) => setTimeout(wake, PAUSE_MS * breaks))
  }
}

async function receive(handle: Handle, state: State, download: Download): Promise<void> {
  const { file, url, onBytes } = download
  const headers = {
    // Compressed bytes could not be gone on with.
    'accept-encoding': 'identity',
    ...(state.bytes > 0 ? { range: `bytes=${state.bytes}-` } : {}),
  }
  const response = await download.fetch(url, { headers })
  if (state.bytes > 0 && response.status !== 206) {
    // The server sends the whole again.
    await handle.truncate(0)
    state.bytes = 0
    state.hash = hashOf(file)
  }
  if (!response.body) return
  const stream: AsyncIterable<Uint8Array> = response.body
  for await (const piece of stream) {
    if (state.bytes + piece.length > file.bytes) {
      throw new LowbitError('io', `The server sends more than ${file.bytes} bytes`, { place: url })
    }
    await handle.writeFile(piece)
    state.hash.update(piece)
    state.bytes += piece.length
    onBytes(state.bytes)
  }
}

/** Whether a line broke, rather than a disk or a rule. */
function isBreak(error: unknown): boolean {
  if (error instanceof LowbitError) return false
  return errorFrom(error).code === 'internal' || isNetwork(error)
}

function isNetwork(error: unknown): boolean {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : ''
  return ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNREFUSED'].includes(String(code))
}

function thrown(error: unknown, { path }: Download): LowbitError {
  return error instanceof LowbitError ? error : writeError(error, path)
}

async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  )
}
