/** A folder on a web server, read by HTTP ranges; nothing is ever written there. */
import { concat } from '../bytes.ts'
import { type ErrorCode, LowbitError } from '../error.ts'
import { ReadOnlyStore } from './read-only.ts'
import { INDEX, shardsOf, SINGLE } from './shards.ts'
import { checkName, checkRange, type Range, type Store } from './store.ts'

/** Files that models carry: a server lists nothing, so these are asked for by name. */
const KNOWN = [
  '1_Pooling/config.json',
  '2_Dense/config.json',
  '2_Dense/model.safetensors',
  'LICENSE',
  'README.md',
  'added_tokens.json',
  'chat_template.jinja',
  'config.json',
  'config_sentence_transformers.json',
  'generation_config.json',
  'merges.txt',
  'model.safetensors',
  'model.safetensors.index.json',
  'modules.json',
  'preprocessor_config.json',
  'sentence_bert_config.json',
  'special_tokens_map.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'vocab.json',
]

/** A file of at most this size is read whole from a server that ignores ranges. */
const WHOLE_BYTES_MAX = 64 << 20

/** Tries of a request that a network or an overloaded server broke off. */
const TRIES = 3

/** Pause before the second try; longer before later ones. */
const PAUSE_MS = 200

/** How to reach the server. */
export interface FetchOptions {
  /** The function that fetches; the platform's own by default. */
  readonly fetch?: typeof fetch
  /** Sent with every request, as an access token. */
  readonly headers?: Readonly<Record<string, string>>
  /** Stops requests under way. */
  readonly signal?: AbortSignal
  /** Names of the files there, where they are known; the usual ones are asked for otherwise. */
  readonly names?: readonly string[]
}

/**
 * Reads a model from a web address.
 *
 * @example
 * const model = await load(fetchStore('https://example.org/novels-4m/'))
 */
export function fetchStore(address: string | URL, options: FetchOptions = {}): Store {
  const url = new URL(address)
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  return new FetchStore(url, options)
}

interface Head {
  readonly bytes: number
  readonly identity: string
  /** The file itself, where the server tells its length only by sending it. */
  readonly whole?: Uint8Array
}

class FetchStore extends ReadOnlyStore {
  readonly #base: URL
  readonly #options: FetchOptions
  readonly #heads = new Map<string, Promise<Head>>()

  constructor(base: URL, options: FetchOptions) {
    super(base.href.replace(/\/$/, ''), 'A web address cannot be written to')
    this.#base = base
    this.#options = options
  }

  async list(): Promise<readonly string[]> {
    const { names } = this.#options
    if (names) return names.toSorted()
    const found = await Promise.all(KNOWN.map((name) => this.#exists(name)))
    const usual = KNOWN.filter((_, i) => found[i])
    if (!usual.includes(INDEX) || usual.includes(SINGLE)) return usual
    const shards = await Promise.all(
      Array.from(await shardsOf(this), async (name) => ((await this.#exists(name)) ? [name] : [])),
    )
    return [...usual, ...shards.flat()].toSorted()
  }

  async size(name: string): Promise<number> {
    return (await this.#head(name)).bytes
  }

  async identity(name: string): Promise<string> {
    return (await this.#head(name)).identity
  }

  async read(name: string, range?: Range): Promise<Uint8Array> {
    const head = await this.#head(name)
    const wanted = range ?? { offset: 0, length: head.bytes }
    checkRange(wanted, head.bytes, this.#url(name).href)
    if (head.whole) return head.whole.slice(wanted.offset, wanted.offset + wanted.length)
    if (wanted.length === 0) return new Uint8Array(0)
    const last = wanted.offset + wanted.length - 1
    return this.#retry(name, async () => {
      const response = await this.#request(name, 'GET', { range: `bytes=${wanted.offset}-${last}` })
      this.#checkUnchanged(name, response, head)
      return this.#body(name, response, wanted)
    })
  }

  #url(name: string): URL {
    checkName(name)
    const url = new URL(name.split('/').map(encodeURIComponent).join('/'), this.#base)
    url.search = this.#base.search
    return url
  }

  #exists(name: string): Promise<boolean> {
    return this.#head(name).then(
      () => true,
      (error: unknown) => {
        if (error instanceof LowbitError && error.code === 'not-found') return false
        throw error
      },
    )
  }

  #head(name: string): Promise<Head> {
    const known = this.#heads.get(name)
    if (known) return known
    const head = this.#retry(name, async () => {
      const response = await this.#request(name, 'HEAD', {})
      const bytes = Number(response.headers.get('content-length') ?? Number.NaN)
      // The length of a compressed answer is not the file's.
      if (!Number.isSafeInteger(bytes) || response.headers.has('content-encoding')) {
        return this.#whole(name)
      }
      return { bytes, identity: `${bytes}:${validator(response)}` }
    })
    this.#heads.set(name, head)
    head.catch(() => this.#heads.delete(name))
    return head
  }

  async #whole(name: string): Promise<Head> {
    const response = await this.#request(name, 'GET', {})
    const whole = await readAtMost(response, WHOLE_BYTES_MAX + 1)
    if (whole.length > WHOLE_BYTES_MAX) {
      throw new LowbitError('io', 'The server does not say how long the file is', {
        place: this.#url(name).href,
      })
    }
    return { bytes: whole.length, identity: `${whole.length}:${validator(response)}`, whole }
  }

  async #request(name: string, method: string, headers: Record<string, string>): Promise<Response> {
    const { fetch = globalThis.fetch, signal } = this.#options
    const url = this.#url(name)
    const response = await fetch(url, {
      method,
      // A compressed answer would have another length than the file.
      headers: { 'accept-encoding': 'identity', ...this.#options.headers, ...headers },
      ...(signal ? { signal } : {}),
    })
    if (response.ok) return response
    await response.body?.cancel()
    throw new LowbitError(
      CODES[response.status] ?? 'io',
      `The server answered ${response.status} ${response.statusText}`.trimEnd(),
      { place: url.href, cause: new HttpStatus(response.status) },
    )
  }

  async #body(name: string, response: Response, range: Range): Promise<Uint8Array> {
    const place = this.#url(name).href
    if (response.status === 206) return readExactly(response, range.length, place)
    const whole = Number(response.headers.get('content-length') ?? Infinity)
    if (range.offset > 0 && whole > WHOLE_BYTES_MAX) {
      await response.body?.cancel()
      throw new LowbitError('unsupported', 'The server does not answer range requests', {
        place,
        remedy: 'serve the model from one that does',
      })
    }
    const head = await readExactly(response, range.offset + range.length, place)
    return head.slice(range.offset)
  }

  #checkUnchanged(name: string, response: Response, head: Head): void {
    const tag = validator(response)
    const now = `${head.bytes}:${tag}`
    if (tag === '' || now === head.identity) return
    throw new LowbitError('file-changed', `The file was ${head.identity} and is now ${now}`, {
      place: this.#url(name).href,
    })
  }

  async #retry<T>(name: string, run: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await run()
      } catch (error) {
        if (this.#options.signal?.aborted) throw new LowbitError('aborted', 'Stopped on request')
        if (attempt < TRIES && isPassing(error)) {
          await new Promise((wake) => setTimeout(wake, PAUSE_MS * attempt))
          continue
        }
        if (error instanceof LowbitError) throw error
        throw new LowbitError('io', 'The server could not be reached', {
          place: this.#url(name).href,
          cause: error,
        })
      }
    }
  }
}

/** What a refusal means where it is not the line or the server that failed. */
const CODES: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthorized',
  403: 'unauthorized',
  404: 'not-found',
  410: 'not-found',
}

class HttpStatus extends Error {
  readonly status: number

  constructor(status: number) {
    super(`HTTP ${status}`)
    this.status = status
  }
}

/** Whether asking again may help: a broken connection or an overloaded server. */
function isPassing(error: unknown): boolean {
  if (!(error instanceof LowbitError)) return true
  const { cause } = error
  return cause instanceof HttpStatus && (cause.status === 429 || cause.status >= 500)
}

function validator(response: Response): string {
  return response.headers.get('etag') ?? response.headers.get('last-modified') ?? ''
}

/** Reads exactly `length` bytes of a body and drops the rest. */
async function readExactly(response: Response, length: number, place: string): Promise<Uint8Array> {
  const bytes = await readAtMost(response, length)
  // A plain error, so that it counts as a broken connection and is tried again.
  if (bytes.length < length) throw new Error(`${place} ended after ${bytes.length} of ${length}`)
  return bytes
}

/** Reads up to `length` bytes of a body, never holding more than that. */
async function readAtMost(response: Response, length: number): Promise<Uint8Array> {
  if (!response.body) return new Uint8Array(0)
  const reader = response.body.getReader()
  const parts: Uint8Array[] = []
  for (let rest = length; rest > 0;) {
    const { value } = await reader.read()
    if (!value) break
    parts.push(value.subarray(0, rest))
    rest -= value.length
  }
  await reader.cancel()
  return concat(parts)
}
