/** Documents to samples of tokens: packed one after another, or one to a sample. */
import { LowbitError } from '../error.ts'
import type { ChatTemplate } from '../text/chat.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { Candidate } from './pool.ts'
import type { Document } from './rows.ts'

/** What turns text into tokens. */
export interface Encoder {
  readonly tokenizer: Tokenizer
  /** Text of a document as the model reads it; nothing for one that is left out. */
  readonly render: (document: Document) => string | undefined
  /** What the model expects before a text, as a token that begins it. */
  readonly start: Uint32Array
}

/** One sample that may be chosen. */
export interface Sample {
  /** Exactly the length that was asked for; absent without a tokenizer. */
  readonly tokens?: Uint32Array
  readonly content: Document['content']
  readonly language: string
  /** In tokens, about without a tokenizer. */
  readonly length: number
  /** About how many tokens the document has that it begins with. */
  readonly documentLength: number
}

/** How documents become samples. */
export interface Packing {
  readonly length: number
  /** One document after another in a sample; else one to a sample, and shorter ones are left out. */
  readonly pack: boolean
  /** Called with the tokens of each document that was encoded. */
  readonly onDocument: (tokens: number) => void
  /** Called for each document that is shorter than a sample. */
  readonly onShort: () => void
}

/** Tokens that the tokenizer puts before a text when it is asked for special ones. */
export function startOf(tokenizer: Tokenizer): Uint32Array {
  const [plain, special] = [tokenizer.encode('a', false), tokenizer.encode('a', true)]
  for (let at = 0; at + plain.length <= special.length; at++) {
    if (plain.every((id, i) => special[at + i] === id)) return special.slice(0, at)
  }
  return special.slice(0, 0)
}

/** Text of a document as the model reads it; a conversation needs the model's template. */
export function renderedText(document: Document, template: ChatTemplate | undefined): string {
  const { content, place } = document
  if (typeof content === 'string') return content
  if (template) return template.render(content, true)
  throw new LowbitError('template', 'Conversations need a chat template, and the model has none', {
    place,
    remedy: 'give texts, or a model with a chat template',
  })
}

/**
 * Samples of `length` tokens; each begins as a text does for this model.
 * @yields each sample
 */
export function* packedSamples(
  candidates: readonly Candidate[],
  encoder: Encoder,
  packing: Packing,
): Generator<Sample> {
  const between = encoder.start.length > 0 ? encoder.start : encoder.tokenizer.encode('\n\n', false)
  let open: Part[] = []
  let tokens = 0
  for (const { document, language, whole } of candidates) {
    const text = encoder.render(document)
    if (text === undefined) continue
    const ids = encoder.tokenizer.encode(text, false)
    packing.onDocument(ids.length)
    if (!packing.pack) {
      if (ids.length + encoder.start.length < packing.length) packing.onShort()
      else yield sampleOf([{ ids, language, documentLength: whole }], encoder, packing.length)
      continue
    }
    const isText = typeof document.content === 'string'
    open.push({ ids, language, documentLength: whole })
    if (isText) open.push({ ids: between, language, documentLength: 0 })
    tokens += ids.length + (isText ? between.length : 0)
    while (tokens >= packing.length) {
      const sample = sampleOf(open, encoder, packing.length)
      yield sample
      const used = packing.length - added(open, encoder.start)
      open = dropped(open, used)
      tokens -= used
    }
  }
}

/** Tokens of one document. */
interface Part {
  readonly ids: Uint32Array
  readonly language: string
  readonly documentLength: number
}

/** How many tokens are put before: none where the text already begins with them. */
function added(parts: readonly Part[], start: Uint32Array): number {
  const ids = parts[0]?.ids ?? start
  return start.every((id, i) => ids[i] === id) ? 0 : start.length
}

function sampleOf(parts: readonly Part[], encoder: Encoder, length: number): Sample {
  const tokens = new Uint32Array(length)
  const shares = new Map<string, number>()
  let done = added(parts, encoder.start)
  if (done > 0) tokens.set(encoder.start)
  for (const { ids, language } of parts) {
    const part = ids.subarray(0, length - done)
    tokens.set(part, done)
    done += part.length
    shares.set(language, (shares.get(language) ?? 0) + part.length)
    if (done === length) break
  }
  const [most] = [...shares].toSorted((a, b) => b[1] - a[1])
  return {
    tokens,
    content: encoder.tokenizer.decode(tokens),
    language: most?.[0] ?? '',
    length,
    documentLength: parts.find((part) => part.documentLength > 0)?.documentLength ?? length,
  }
}

function dropped(parts: readonly Part[], count: number): Part[] {
  let rest = count
  const kept: Part[] = []
  for (const part of parts) {
    const ids = part.ids.subarray(Math.min(rest, part.ids.length))
    rest -= part.ids.length - ids.length
    if (ids.length > 0) kept.push({ ...part, ids })
  }
  return kept
}

/**
 * Whole documents as samples, for a set that any model can take.
 * @yields each sample
 */
export function* documentSamples(
  candidates: readonly Candidate[],
  packing: Packing,
): Generator<Sample> {
  for (const { document, language, estimate, whole } of candidates) {
    packing.onDocument(estimate)
    if (!packing.pack && estimate < packing.length) packing.onShort()
    else yield { content: document.content, language, length: estimate, documentLength: whole }
  }
}
