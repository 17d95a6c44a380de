/** How the hub is reached: one place for its address, the token, second tries and refusals. */
import { aborted, type ErrorCode, LowbitError } from '../error.ts'

/** Where the hub is, and as whom it is asked. */
export interface Hub {
  /** Address of the hub. Default the public one. */
  readonly endpoint?: string | undefined
  /** Access token for what is not public. */
  readonly token?: string | undefined
  /** Nothing is asked of the network. */
  readonly offline?: boolean | undefined
}

/** The public hub. */
const ENDPOINT = 'https://huggingface.co'

/** Tries of a request that a network or an overloaded server broke off. */
const TRIES = 3

/** Pause before the second try; longer before later ones. */
const PAUSE_MS = 200

/** The address of a hub without a slash at its end. */
export function endpointOf(hub: Hub): string {
  return (hub.endpoint ?? ENDPOINT).replace(/\/+$/, '')
}

/** Headers of a request: the token goes to the hub itself and to nobody else. */
export function hubHeaders(hub: Hub): Record<string, string> {
  return hub.token ? { authorization: `Bearer ${hub.token}` } : {}
}

/** What is asked for, for messages. */
export interface Asked {
  /** The model or data set, as the user wrote it. */
  readonly name: string
  readonly signal?: AbortSignal | undefined
}

/**
 * A `fetch` that asks again where that may help and throws what a refusal means: `not-found`,
 * `unauthorized`, `io` or `aborted`.
 */
export function hubFetch(hub: Hub, { name, signal }: Asked): typeof fetch {
  const { origin } = new URL(endpointOf(hub))
  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input)
    if (hub.offline) throw offline(name)
    const headers = new Headers(init.headers)
    if (url.origin === origin) {
      for (const [key, value] of Object.entries(hubHeaders(hub))) headers.set(key, value)
    }
    const request = { ...init, headers, ...(signal ? { signal } : {}) }
    const response = await retry(url, request, name)
    if (response.ok) return response
    throw await refusal(response, hub, name)
  }
}

async function retry(url: URL, request: RequestInit, name: string): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const last = attempt === TRIES
    const response = await ask(url, request, { name, last })
    if (response && (last || !isPassing(response))) return response
    await response?.body?.cancel()
    await new Promise((wake) => setTimeout(wake, PAUSE_MS * attempt))
  }
}

/** The error of a request that the user does not want made. */
export function offline(name: string): LowbitError {
  return new LowbitError('not-found', 'It is not in the cache, and HF_HUB_OFFLINE is set', {
    place: name,
    remedy: 'run once with a network and without HF_HUB_OFFLINE',
  })
}

async function ask(
  url: URL,
  request: RequestInit,
  { name, last }: { name: string; last: boolean },
): Promise<Response | undefined> {
  try {
    return await fetch(url, request)
  } catch (cause) {
    if (request.signal?.aborted) throw aborted(cause)
    if (!last) return undefined
    throw new LowbitError('io', `The hub could not be reached for ${name}`, {
      place: url.origin,
      remedy: 'check the network, or name a folder that is there',
      cause,
    })
  }
}

/** Whether asking again may help. */
function isPassing({ status }: Response): boolean {
  return status === 429 || status >= 500
}

/** What a refusal means. */
interface Refusal {
  /** What the hub calls it in `X-Error-Code`. */
  readonly named: string
  /** Status of an answer that is not named. */
  readonly status: number
  readonly code: ErrorCode
  readonly what: string
  readonly remedy: string
}

const TOKEN = 'set HF_TOKEN to a token that may read it, or run: hf auth login'

/** The first row that fits counts; `$` stands for the address of the page. */
const REFUSALS: readonly Refusal[] = [
  {
    named: 'GatedRepo',
    status: 403,
    code: 'unauthorized',
    what: 'The files are gated',
    remedy: `ask for access at $, then ${TOKEN}`,
  },
  {
    named: 'RepoNotFound',
    status: 404,
    code: 'not-found',
    what: 'The hub has nothing of that name that this user may see',
    remedy: `check the name and whether there is such a folder; for what is private ${TOKEN}`,
  },
  {
    named: 'RevisionNotFound',
    status: 404,
    code: 'not-found',
    what: 'There is no such revision',
    remedy: 'the branches, tags and commits are listed at $',
  },
  {
    named: 'EntryNotFound',
    status: 404,
    code: 'not-found',
    what: 'There is no such file',
    remedy: 'the files are listed at $',
  },
  {
    named: 'DisabledRepo',
    status: 403,
    code: 'unauthorized',
    what: 'The hub has disabled access to it',
    remedy: 'see $',
  },
  {
    named: 'InvalidToken',
    status: 401,
    code: 'unauthorized',
    what: 'The hub does not accept the token, or wants one',
    remedy: `check the name; ${TOKEN}`,
  },
]

async function refusal(response: Response, hub: Hub, name: string): Promise<LowbitError> {
  await response.body?.cancel()
  // Who shows no token is told of nothing that is private, so that names cannot be guessed.
  const unnamed = response.status === 401 && !hub.token ? 'RepoNotFound' : ''
  const named = response.headers.get('x-error-code') ?? unnamed
  const row =
    REFUSALS.find((one) => one.named === named) ??
    REFUSALS.find((one) => one.status === response.status)
  if (!row) {
    const what = `The hub answered ${response.status} ${response.statusText}`.trimEnd()
    return new LowbitError('io', what, { place: name, remedy: 'try again later' })
  }
  const page = `${endpointOf(hub)}/${name.replace(/[@:].*$/, '')}`
  return new LowbitError(row.code, row.what, {
    place: name,
    remedy: row.remedy.replace('$', page),
  })
}
