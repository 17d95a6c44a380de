/**
 * A hub for tests: the routes of huggingface.co that models are read by, on two servers, because
 * large files come from another host than the one that is asked.
 */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { ExecutionContext } from 'ava'

/** A hub's contents and faults. */
export interface HubSite {
  /** Files by path; those over `large` bytes are stored and served as large files are. */
  readonly files: Readonly<Record<string, Uint8Array>>
  readonly large?: number
  /** Bytes after which an answer about a large file breaks off; every answer, so resuming is needed. */
  cut?: number
  /** Bytes of a large file that are wrong on their way. */
  damaged?: boolean
  /** Answers ranges of large files; true unless said otherwise. */
  readonly ranges?: boolean
  /** Wants this token for files. */
  readonly gate?: string
  /** Path that the listing claims. */
  readonly claims?: string
  /** Answers 503 to so many requests first. */
  busy?: number
}

/** A hub that runs. */
export interface RunningHub {
  readonly endpoint: string
  /** A line for each request: method, path, range, and whether it showed a token. */
  readonly seen: string[]
  /** Bytes of answers about files. */
  sent: number
  close(): Promise<void>
}

/** The repository and its one commit. */
export const REPO = 'owner/name'
export const SHA = '0123456789abcdef0123456789abcdef01234567'

const PAGE = 3

/** Serves a repository until the test ends. */
export async function serveHub(t: ExecutionContext, site: HubSite): Promise<RunningHub> {
  const state = { seen: [] as string[], sent: 0 }
  const store = await listen(t, (request, response) => {
    note(request, state.seen, 'store')
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://a').pathname.slice(1))
    state.sent += file(request, response, { site, path, isLarge: true })
  })
  const hub = await listen(t, (request, response) => {
    note(request, state.seen, 'hub')
    if (site.busy !== undefined && site.busy-- > 0) return response.writeHead(503).end()
    state.sent += answer(request, response, { site, store: store.address })
    return undefined
  })
  return Object.assign(state, {
    endpoint: hub.address,
    async close() {
      await Promise.all([hub.close(), store.close()])
    },
  })
}

interface Site {
  readonly site: HubSite
  readonly store: string
}

function answer(request: IncomingMessage, response: ServerResponse, { site, store }: Site): number {
  const url = new URL(request.url ?? '/', 'http://a')
  const [, path] =
    /^\/owner\/name\/resolve\/[^/]+\/(.+)$/.exec(decodeURIComponent(url.pathname)) ?? []
  if (path !== undefined) return resolved(request, response, { site, store, path })
  if (!url.pathname.startsWith('/api/models/owner/name/')) return refuse(response, 401, '')
  if (/\/revision\/(main|HEAD|v1|refs%2Fpr%2F1|0123\w+)$/.test(url.pathname)) {
    return json(response, { _id: '1', id: REPO, sha: SHA, modelId: REPO })
  }
  if (url.pathname.endsWith(`/tree/${SHA}`)) return tree(response, site, url)
  return refuse(response, 404, 'RevisionNotFound')
}

/** A file, or where a large one is. */
function resolved(
  request: IncomingMessage,
  response: ServerResponse,
  { site, store, path }: Site & { readonly path: string },
): number {
  if (site.gate !== undefined && request.headers.authorization !== `Bearer ${site.gate}`) {
    return refuse(response, 401, 'GatedRepo')
  }
  if (site.files[path] === undefined) return refuse(response, 404, 'EntryNotFound')
  if (!isLarge(site, path)) return file(request, response, { site, path, isLarge: false })
  response.writeHead(302, { location: `${store}/${path}?signed=1` }).end()
  return 0
}

/** A page of the listing, with the address of the next one. */
function tree(response: ServerResponse, site: HubSite, url: URL): number {
  const entries = [
    { type: 'directory', path: 'sub', size: 0, oid: '0' },
    ...Object.entries(site.files).map(([path, bytes]) => entryOf(site, path, bytes)),
  ]
  const from = Number(url.searchParams.get('cursor') ?? 0)
  if (from + PAGE < entries.length) {
    url.searchParams.set('cursor', `${from + PAGE}`)
    const next = `http://${response.req.headers.host}${url.pathname}${url.search}`
    response.setHeader('link', `<${next}>; rel="next"`)
  }
  return json(response, entries.slice(from, from + PAGE))
}

function entryOf(site: HubSite, path: string, bytes: Uint8Array): object {
  const shown = site.claims ?? path
  const git = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  const entry = { type: 'file', path: shown, size: bytes.length, oid: git }
  if (!isLarge(site, path)) return entry
  const oid = createHash('sha256').update(bytes).digest('hex')
  return { ...entry, oid: '0'.repeat(40), lfs: { oid, size: bytes.length, pointerSize: 134 } }
}

function isLarge({ files, large = 10_000 }: HubSite, path: string): boolean {
  return (files[path]?.length ?? 0) > large
}

function file(
  request: IncomingMessage,
  response: ServerResponse,
  { site, path, isLarge: large }: { site: HubSite; path: string; isLarge: boolean },
): number {
  const bytes = Buffer.from(site.files[path] ?? '')
  const range = site.ranges === false ? undefined : rangeOf(request, bytes.length)
  const body = range ? bytes.subarray(range.first, range.end) : bytes
  response.writeHead(range ? 206 : 200, { etag: '"1"', 'content-length': body.length })
  if (request.method === 'HEAD') {
    response.end()
    return 0
  }
  const { cut = Infinity, damaged } = large ? site : {}
  if (damaged) body.fill(255, 0, 1)
  if (cut >= body.length) {
    response.end(body)
    return body.length
  }
  response.write(body.subarray(0, cut), () => response.destroy())
  return cut
}

function rangeOf(
  request: IncomingMessage,
  bytes: number,
): { first: number; end: number } | undefined {
  const [, first, last] = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '') ?? []
  if (first === undefined) return undefined
  return { first: Number(first), end: last ? Number(last) + 1 : bytes }
}

function refuse(response: ServerResponse, status: number, code: string): number {
  response.writeHead(status, code === '' ? {} : { 'x-error-code': code }).end()
  return 0
}

function json(response: ServerResponse, value: unknown): number {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
  return 0
}

function note(request: IncomingMessage, seen: string[], host: string): void {
  const { method, url = '', headers } = request
  const path = url.replace(/\?.*/, '')
  const token = headers.authorization === undefined ? '' : ' token'
  seen.push(`${host} ${method} ${path} ${headers.range ?? ''}${token}`.trim())
}

async function listen(
  t: ExecutionContext,
  handle: (request: IncomingMessage, response: ServerResponse) => unknown,
): Promise<{ address: string; close: () => Promise<void> }> {
  const server = createServer(handle)
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready)
  })
  const close = (): Promise<void> =>
    new Promise((closed) => {
      server.closeAllConnections()
      server.close(() => closed())
    })
  t.teardown(close)
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  return { address: `http://127.0.0.1:${port}`, close }
}
