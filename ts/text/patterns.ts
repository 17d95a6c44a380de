/**
 * Regular expressions of a tokenizer, looked at before one runs. JavaScript tries every way to
 * match: a repetition inside a repetition, as in `(a+)+`, has twice as many with each character.
 * No tokenizer needs one. What takes long in other ways is stopped by time where that is possible.
 */
import { isObject } from '../bytes.ts'
import { LowbitError, quote } from '../error.ts'

/** Longest expression; those of known tokenizers have some hundred characters. */
const LENGTH_MAX = 20_000

/** From so many repetitions on, a bound is as good as none. */
const BOUND = 100

/** Refuses expressions anywhere in these parts of a tokenizer.json; `tokenizer`. */
export function checkPatterns(part: unknown, place: string): void {
  if (Array.isArray(part)) for (const one of part) checkPatterns(one, place)
  if (!isObject(part)) return
  for (const [key, value] of Object.entries(part)) {
    if (key === 'Regex' && typeof value === 'string') checkPattern(value, place)
    else checkPatterns(value, place)
  }
}

function checkPattern(pattern: string, place: string): void {
  const why =
    pattern.length > LENGTH_MAX
      ? `has ${pattern.length} characters`
      : repeatsRepeats(pattern)
        ? 'repeats what it repeats, which may take for ever'
        : undefined
  if (why === undefined) return
  throw new LowbitError('tokenizer', `The expression ${quote(pattern)} ${why}`, {
    place,
    remedy: 'use a tokenizer whose expressions repeat no repetition',
  })
}

/** One piece of an expression: an escape, a class, a parenthesis, a repetition, a character. */
const PIECE = /\\.|\[(?:\\.|[^\]])*\]|\((?:\?[^)]?)?|\)|[*+?]|\{(\d+)(,(\d*))?\}|[^]/gu

/** Whether an unbounded repetition stands inside a group that is repeated without bound. */
export function repeatsRepeats(pattern: string): boolean {
  /** For each open group, whether something in it is repeated. */
  const open: boolean[] = [false]
  let group = false
  for (const piece of pattern.matchAll(PIECE)) {
    const [text] = piece
    if (text.startsWith('(')) open.push(false)
    if (isRepetition(piece)) {
      if (group) return true
      open[open.length - 1] = true
    }
    // Whether the next piece, if it is a repetition, repeats a group that repeats something.
    group = text === ')' && (open.pop() ?? false)
    if (group) open[open.length - 1] = true
    if (open.length === 0) open.push(group)
  }
  return false
}

function isRepetition([text, least, more, most]: RegExpExecArray): boolean {
  if (text === '*' || text === '+') return true
  if (least === undefined) return false
  if (more === undefined) return false
  return most === '' || Number(most) >= BOUND
}
