/** Tokens to text while they come: no character is split, no stop string gets out. */
import type { Tokenizer } from './tokenizer.ts'

/** Tokens before a new one that decide how it is spelled, as with leading spaces. */
const CONTEXT_TOKENS = 6

/** What a decoder puts in place of bytes that are no character, or not yet. */
const REPLACEMENT = '\uFFFD'

/** Text of tokens that arrive one by one. */
export interface TokenStream {
  /** The text that this token completes; empty while a character is unfinished. */
  push(token: number): string
  /** What is left when no token follows: an unfinished character as its replacement. */
  end(): string
}

/**
 * Text of the tokens after `prompt`. All pieces together are the text of all tokens.
 *
 * A window of tokens is decoded twice, with and without the new ones, because a token has no text
 * of its own: decoders drop a space at the start, and bytes of one character come in many tokens.
 */
export function tokenStream(tokenizer: Tokenizer, prompt: Uint32Array): TokenStream {
  let known: number[] = Array.from(prompt.subarray(-CONTEXT_TOKENS))
  let pending: number[] = []

  function take(final: boolean): string {
    const before = tokenizer.decode(known)
    const text = tokenizer.decode([...known, ...pending])
    if (!final && text.endsWith(REPLACEMENT)) return ''
    known = [...known, ...pending].slice(-CONTEXT_TOKENS)
    pending = []
    return text.slice(before.length)
  }

  return {
    push(token) {
      pending.push(token)
      return take(false)
    },
    end: () => (pending.length > 0 ? take(true) : ''),
  }
}

/** What may be shown of a text that could be turning into a stop string. */
export interface StopFilter {
  /** Adds text; gives what is certain not to belong to a stop string, and whether one came. */
  push(text: string): { readonly text: string; readonly stopped: boolean }
  /** What was held back when nothing follows. */
  end(): string
}

/** Cuts a text at the first of some strings, across the borders of its pieces. */
export function stopFilter(stops: readonly string[]): StopFilter {
  let held = ''
  let done = false
  return {
    push(text) {
      if (done) return { text: '', stopped: true }
      held += text
      const cut = firstOf(held, stops)
      if (cut !== undefined) {
        const shown = held.slice(0, cut)
        held = ''
        done = true
        return { text: shown, stopped: true }
      }
      const keep = longestPrefixAtEnd(held, stops)
      const shown = held.slice(0, held.length - keep)
      held = held.slice(held.length - keep)
      return { text: shown, stopped: false }
    },
    end() {
      const rest = held
      held = ''
      return rest
    },
  }
}

function firstOf(text: string, stops: readonly string[]): number | undefined {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0)
  return found.length > 0 ? Math.min(...found) : undefined
}

/** How many characters at the end could be the start of a stop string. */
function longestPrefixAtEnd(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    for (let n = Math.min(stop.length - 1, text.length); n > longest; n--) {
      if (text.endsWith(stop.slice(0, n))) longest = n
    }
  }
  return longest
}
