/**
 * The one error that leaves this package: a stable code, what was wrong, where, and the remedy.
 */

/** Every code, as the table in `crates/lowbit/src/error.rs` has them. */
export const CODES = [
  'truncated',
  'not-a-model',
  'header-limit',
  'header-json',
  'duplicate-key',
  'overlap',
  'hole',
  'trailing-bytes',
  'shape',
  'dtype',
  'align',
  'metadata',
  'name',
  'version',
  'count-limit',
  'string-limit',
  'array-limit',
  'nesting',
  'rank',
  'block',
  'alignment',
  'data-limit',
  'imatrix',
  'file-changed',
  'path-escape',
  'index',
  'config',
  'unknown-architecture',
  'missing-tensor',
  'qparam',
  'scheme',
  'option',
  'recipe',
  'nonfinite-weight',
  'fallback',
  'nonfinite-activation',
  'nonfinite-logits',
  'dataset',
  'tokenizer',
  'template',
  'context',
  'output-path',
  'resume-mismatch',
  'resume-corrupt',
  'locked',
  'io',
  'disk-full',
  'not-found',
  'unauthorized',
  'out-of-memory',
  'aborted',
  'device-lost',
  'no-device',
  'unsupported',
  'internal',
] as const

/** A stable identifier of an error; branch on it, never on a message. */
export type ErrorCode = (typeof CODES)[number]

/** Where an error is and what helps against it. */
export interface ErrorDetail {
  /** File, tensor, byte offset or option. */
  readonly place?: string | undefined
  /** What the reader can do. */
  readonly remedy?: string | undefined
  /** What was caught. */
  readonly cause?: unknown
}

/**
 * What every function of this package throws.
 *
 * @example
 * try {
 *   await load('./model')
 * } catch (error) {
 *   if (error instanceof LowbitError && error.code === 'not-found') offerDownload()
 * }
 */
export class LowbitError extends Error {
  override readonly name = 'LowbitError'
  /** The stable identifier. */
  readonly code: ErrorCode

  constructor(code: ErrorCode, what: string, detail: ErrorDetail = {}) {
    const place = detail.place ? `, in ${detail.place}` : ''
    const remedy = detail.remedy ? `; ${detail.remedy}` : ''
    super(what + place + remedy, detail.cause === undefined ? {} : { cause: detail.cause })
    this.code = code
  }
}

/** Turns whatever was thrown into a `LowbitError`; what has no known code becomes `fallback`. */
export function errorFrom(
  thrown: unknown,
  fallback: ErrorCode = 'internal',
  place?: string,
): LowbitError {
  if (thrown instanceof LowbitError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  const code = codeOf(thrown)
  // A message of the binding ends with its remedy, so the file it does not know goes in front.
  if (code)
    return new LowbitError(code, place ? `${place}: ${message}` : message, { cause: thrown })
  if (thrown instanceof Error && thrown.name === 'AbortError') return aborted(thrown)
  const system = systemError(thrown)
  if (system)
    return new LowbitError(system.code, `${system.what} (${message})`, system.detail(place, thrown))
  return new LowbitError(fallback, message, { place, cause: thrown })
}

/** The error of a run that its caller stopped. */
export function aborted(cause?: unknown): LowbitError {
  return new LowbitError('aborted', 'Stopped on request', { cause })
}

/** Throws `aborted` when the caller has asked to stop. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal.reason)
}

/** The candidate nearest to `word` by edit distance, for "did you mean". */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Infinity
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate)
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** A place as an error names it: quoted, and on one line whatever a file wrote into it. */
export function quote(text: string): string {
  const shown = text.length > 120 ? `${text.slice(0, 117)}...` : text
  return JSON.stringify(shown).replaceAll(
    /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    hex,
  )
}

function hex(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

function codeOf(thrown: unknown): ErrorCode | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined
  return CODES.find((code) => code === thrown.code)
}

interface SystemError {
  readonly code: ErrorCode
  readonly what: string
  readonly detail: (place: string | undefined, cause: unknown) => ErrorDetail
}

/** What the operating system's error numbers mean here. */
const SYSTEM: Readonly<Record<string, readonly [ErrorCode, string, string?]>> = {
  ENOENT: ['not-found', 'The file or folder does not exist'],
  ELOOP: ['not-found', 'A link leads back to itself'],
  ENOTDIR: ['not-found', 'A part of the path is not a folder'],
  ENOSPC: ['disk-full', 'The disk is full', 'free space and run the same command again'],
  EDQUOT: ['disk-full', 'The disk quota is used up', 'free space and run the same command again'],
  EMFILE: ['io', 'Too many files are open', 'raise the limit with ulimit -n'],
  ENOMEM: ['out-of-memory', 'The system has no memory left'],
}

function systemError(thrown: unknown): SystemError | undefined {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return undefined
  const name = String(thrown.code)
  if (!/^E(?!RR_)[A-Z0-9]+$/.test(name)) return undefined
  const [code, what, remedy] = SYSTEM[name] ?? ['io', 'Reading or writing failed']
  return { code, what, detail: (place, cause) => ({ place, remedy, cause }) }
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1]
    for (let j = 0; j < b.length; j++) {
      const substitute = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1)
      next.push(Math.min(substitute, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
