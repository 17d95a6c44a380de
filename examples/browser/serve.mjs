// Serves this repository to a browser on this machine: right types, byte ranges, nothing hidden.
//   node examples/browser/serve.mjs [port]
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname, join, normalize, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.jinja': 'text/plain; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.md': 'text/markdown; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.txt': 'text/plain; charset=utf-8',
  // Browsers compile a module while it arrives only under this type.
  '.wasm': 'application/wasm',
}

/**
 * Starts a server of `root` on the loopback address.
 * @param {string} root folder whose files are served
 * @param {number} [port] 0 takes a free one
 * @returns {Promise<{ url: string, close: () => void }>}
 */
export function serve(root, port = 0) {
  const server = createServer((request, response) => {
    answer(root, request, response).catch(() => response.writeHead(500).end())
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const url = `http://127.0.0.1:${server.address().port}`
      resolve({ url, close: () => server.close() && server.closeAllConnections() })
    })
  })
}

async function answer(root, request, response) {
  const isRead = request.method === 'GET' || request.method === 'HEAD'
  const file = isRead && fileOf(root, request.url)
  const found = file && (await stat(file).catch(() => undefined))
  if (found?.isFile()) send(request, response, { file, found })
  else response.writeHead(isRead ? 404 : 405).end()
}

function send(request, response, { file, found }) {
  const asked = request.headers.range
  const range = rangeOf(asked, found.size)
  if (!range) {
    response.writeHead(416, { 'content-range': `bytes */${found.size}` }).end()
    return
  }
  const { first, last } = range
  response.writeHead(asked ? 206 : 200, {
    'accept-ranges': 'bytes',
    'cache-control': 'no-cache',
    'content-length': last - first + 1,
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    etag: `"${found.size}-${found.mtimeMs}"`,
    ...(asked && { 'content-range': `bytes ${first}-${last}/${found.size}` }),
  })
  if (request.method === 'HEAD' || last < first) response.end()
  else {
    const body = createReadStream(file, { start: first, end: last })
    body.on('error', () => response.destroy()).pipe(response)
  }
}

/** The file that an address names; none outside the folder or behind a dot. */
function fileOf(root, address) {
  const path = decodeURIComponent(new URL(address, 'http://localhost').pathname)
  const name = normalize(path.endsWith('/') ? `${path}index.html` : path)
  if (name.split(sep).some((part) => part.startsWith('.'))) return undefined
  return join(root, name)
}

/** First and last byte, inclusive; the whole file without a range. */
function rangeOf(header, size) {
  if (!header) return { first: 0, last: size - 1 }
  const parts = /^bytes=(\d+)-(\d*)$/.exec(header)
  if (!parts) return undefined
  const first = Number(parts[1])
  const last = Math.min(parts[2] ? Number(parts[2]) : size - 1, size - 1)
  return first <= last ? { first, last } : undefined
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const { url } = await serve(root, Number(process.argv[2] ?? 8080))
  console.log(`${url}/examples/browser/`)
}
