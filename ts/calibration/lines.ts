/** Bytes to lines and passages of text, with bounded memory whatever the bytes are. */
import { concat } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import { type DataFile, linePlace } from './source.ts'

/** Longest line of JSONL: a longer one is no row, and reading it would take the memory. */
const LINE_BYTES_MAX = 16 << 20

/** What is done about a row that cannot be read: it throws, or counts and returns. */
export type Bad = (error: LowbitError) => void

/** A line of a file. */
export interface Line {
  readonly text: string
  /** From 1. */
  readonly number: number
  /** Whether a line break follows; the last line of a cut file has none. */
  readonly ended: boolean
}

const NEWLINE = 10

/**
 * Lines that are not empty; `dataset` for one that is no UTF-8 or too long.
 * @yields each line
 */
export async function* linesOf(
  file: DataFile,
  pieces: AsyncIterable<Uint8Array>,
  bad: Bad,
): AsyncGenerator<Line> {
  const open = new OpenLine(file, bad)
  for await (const piece of pieces) {
    let from = 0
    for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, from)) {
      open.add(piece.subarray(from, at))
      from = at + 1
      const line = open.close(true)
      if (line) yield line
    }
    open.add(piece.subarray(from))
  }
  const line = open.close(false)
  if (line) yield line
}

/** The line that is being read. */
class OpenLine {
  readonly #file: DataFile
  readonly #bad: Bad
  #parts: Uint8Array[] = []
  #bytes = 0
  #number = 1

  constructor(file: DataFile, bad: Bad) {
    this.#file = file
    this.#bad = bad
  }

  add(part: Uint8Array): void {
    const before = this.#bytes
    this.#bytes += part.length
    if (this.#bytes <= LINE_BYTES_MAX) this.#parts.push(part.slice())
    else this.#parts = []
    if (before <= LINE_BYTES_MAX && this.#bytes > LINE_BYTES_MAX) {
      this.#bad(
        new LowbitError('dataset', `A line is longer than ${LINE_BYTES_MAX} bytes`, {
          place: linePlace(this.#file, this.#number),
          remedy: 'write one row to a line, or leave it out with lowbit calibrate --skip-bad',
        }),
      )
    }
  }

  close(ended: boolean): Line | undefined {
    const number = this.#number++
    const bytes = concat(this.#parts)
    const tooLong = this.#bytes > LINE_BYTES_MAX
    this.#parts = []
    this.#bytes = 0
    if (tooLong) return undefined
    const text = decode(bytes, number === 1)
    if (text === undefined) this.#bad(notUtf8(this.#file, number, bytes))
    return text === undefined || text.trim() === '' ? undefined : { text, number, ended }
  }
}

/**
 * Text of a file in passages of about `size` characters that end where a paragraph does.
 * @yields each passage
 */
export async function* passagesOf(
  file: DataFile,
  pieces: AsyncIterable<Uint8Array>,
  { size, bad }: { size: number; bad: Bad },
): AsyncGenerator<string> {
  let rest = ''
  for await (const text of decoded(file, pieces, bad)) {
    rest += text
    while (rest.length >= 2 * size) {
      const cut = cutOf(rest, size)
      yield rest.slice(0, cut)
      rest = rest.slice(cut)
    }
  }
  if (rest !== '') yield rest
}

/**
 * A long text in passages of the same kind.
 * @yields each passage
 */
export function* passagesIn(text: string, size: number): Generator<string> {
  let rest = text
  while (rest.length >= 2 * size) {
    const cut = cutOf(rest, size)
    yield rest.slice(0, cut)
    rest = rest.slice(cut)
  }
  if (rest !== '') yield rest
}

/** After a paragraph, a line, a word, or where no character is split. */
function cutOf(text: string, size: number): number {
  for (const mark of ['\n\n', '\n', ' ']) {
    const at = text.indexOf(mark, size)
    if (at >= 0 && at + mark.length <= 2 * size) return at + mark.length
  }
  const isPair = /[\uD800-\uDBFF]/.test(text.charAt(size - 1))
  return isPair ? size - 1 : size
}

/**
 * Text of each piece; lines that are no UTF-8 are reported, and left out if that returns.
 * @yields text of each piece
 */
async function* decoded(
  file: DataFile,
  pieces: AsyncIterable<Uint8Array>,
  bad: Bad,
): AsyncGenerator<string> {
  let carry: Uint8Array = new Uint8Array(0)
  let line = 1
  let first = true
  for await (const piece of pieces) {
    const bytes = carry.length > 0 ? concat([carry, piece]) : piece
    const end = wholeCharacters(bytes)
    carry = bytes.slice(end)
    const part = bytes.subarray(0, end)
    yield decode(part, first) ?? goodLines(file, part, { line, first, bad })
    line += count(part)
    first = false
  }
  if (carry.length > 0) bad(notUtf8(file, line, carry))
}

function goodLines(
  file: DataFile,
  bytes: Uint8Array,
  { line, first, bad }: { line: number; first: boolean; bad: Bad },
): string {
  let text = ''
  let number = line
  for (let from = 0; from < bytes.length; number++) {
    const newline = bytes.indexOf(NEWLINE, from)
    const end = newline < 0 ? bytes.length : newline + 1
    const part = decode(bytes.subarray(from, end), first && from === 0)
    if (part === undefined) bad(notUtf8(file, number, bytes.subarray(from, end)))
    text += part ?? ''
    from = end
  }
  return text
}

/** Where the last character that is whole ends: a piece may end inside one. */
function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0
    if (byte < 0x80) return bytes.length
    if (byte >= 0xc0) {
      const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2
      return length > back ? bytes.length - back : bytes.length
    }
  }
  return bytes.length
}

function count(bytes: Uint8Array): number {
  let newlines = 0
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) newlines++
  return newlines
}

/** UTF-8; a byte order mark is taken off the start of a file and kept elsewhere. */
function decode(bytes: Uint8Array, first: boolean): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: !first }).decode(bytes)
  } catch {
    return undefined
  }
}

function notUtf8(file: DataFile, line: number, bytes: Uint8Array): LowbitError {
  const wide = line === 1 && /^(255,254|254,255)/.test(bytes.subarray(0, 2).join())
  return new LowbitError('dataset', wide ? 'The text is UTF-16' : 'The text is not UTF-8', {
    place: linePlace(file, line),
    remedy: wide
      ? 'save it as UTF-8'
      : 'repair it, or leave it out with lowbit calibrate --skip-bad',
  })
}
