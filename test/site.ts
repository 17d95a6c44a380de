/** A web server for tests, with the faults that servers have. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { ExecutionContext } from 'ava'

/** What is wrong with the server. */
export interface Site {
  /** Answers ranges; true unless said otherwise. */
  readonly ranges?: boolean
  /** Says how long answers are; true unless said otherwise. */
  readonly lengths?: boolean
  /** Breaks off the first answer about every file. */
  readonly cutFirst?: boolean
  /** ETag of every file. */
  tag?: string
  /** Answers this to everything, as a network that wants a login. */
  readonly page?: string
  /** Gets a line for each request. */
  readonly seen?: string[]
}

/** Serves texts until the test ends; gives the address. */
export async function serve(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  site: Site,
): Promise<string> {
  const asked = new Set<string>()
  const server = createServer((request, response) => {
    site.seen?.push(`${request.url} ${request.headers.authorization}`)
    const key = `${request.method} ${request.url}`
    if (site.page !== undefined) response.end(site.page)
    else if (site.cutFirst && !asked.has(key)) response.destroy()
    else answer(request, response, { files, site })
    asked.add(key)
  })
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready)
  })
  t.teardown(() => server.close())
  const address = server.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/`
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { files, site }: { files: Readonly<Record<string, string>>; site: Site },
): void {
  const name = new URL(request.url ?? '/', 'http://a').pathname.slice(1)
  const file = Object.entries(files).find(([known]) => known === name)?.[1]
  if (file === undefined) {
    response.writeHead(404).end()
    return
  }
  const range = site.ranges === false ? null : rangeOf(request)
  const body = range ? file.slice(range.first, range.last + 1) : file
  if (site.lengths === false) response.setHeader('transfer-encoding', 'chunked')
  else response.setHeader('content-length', body.length)
  response.setHeader('etag', site.tag ?? '"1"').writeHead(range ? 206 : 200)
  response.end(request.method === 'HEAD' ? undefined : body)
}

function rangeOf(request: IncomingMessage): { first: number; last: number } | null {
  const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '')
  return range && { first: Number(range[1]), last: Number(range[2]) }
}
