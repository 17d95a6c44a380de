/** Texts to tokens, and batches of them to values: what `embed` and `classify` share. */
import { errorFrom, LowbitError, throwIfAborted } from '../error.ts'
import type { Loaded } from '../loaded.ts'
import type { Watching } from '../watching.ts'
import { meter } from '../progress.ts'
import { needTokenizer, type Tokenizer } from '../text/tokenizer.ts'

/** A text, or a pair of texts. */
export type TextOrPair = string | readonly [first: string, second: string]

/** A text as tokens. */
interface Tokens {
  readonly ids: Uint32Array
  /** Tokens before the second text of a pair; all of them for a text alone. */
  readonly second: number
}

/** What a batch is asked for, beside its tokens. */
export interface Wanted {
  readonly want: 'vectors' | 'labels'
  readonly pooling?: readonly string[]
  readonly normalize?: boolean
}

/** How texts become tokens. */
export interface Cutting {
  /** Most tokens of a text. */
  readonly limit: number
  /** Whether longer ones are cut; else they are refused. */
  readonly truncate: boolean
}

/** Tokens of a pass: enough for products to be worth it, few enough for aborts to come through. */
const BATCH_TOKENS = 1024

/**
 * Runs texts in batches of similar length and gives the values of each, in the order of the texts.
 * Throws `context` for a text that is too long when it is not to be cut.
 */
export async function encodeTexts(
  loaded: () => Loaded,
  texts: readonly TextOrPair[],
  wanted: Wanted,
  options: Cutting & Watching,
): Promise<Float32Array[]> {
  const { tokenizer: own, place: model } = loaded()
  const tokenizer = needTokenizer(own, model)
  const report = meter(options)
  const stage = wanted.want === 'vectors' ? 'embed' : 'classify'
  const tokens = texts.map((text, place) => ({ ...cut(tokenizer, text, options), place }))
  tokens.sort((a, b) => a.ids.length - b.ids.length)
  const values: Float32Array[] = []
  let done = 0
  while (done < tokens.length) {
    throwIfAborted(options.signal)
    const batch = tokens.slice(done, endOf(tokens, done))
    const found = await run(loaded(), batch, wanted)
    const width = found.length / batch.length
    for (const [at, text] of batch.entries()) {
      values[text.place] = found.slice(at * width, (at + 1) * width)
    }
    done += batch.length
    report({ stage, done, total: tokens.length })
  }
  return values
}

/** Where the batch ends that begins at `from`: it has as many texts as fit, one at least. */
function endOf(tokens: readonly Tokens[], from: number): number {
  let count = tokens[from]?.ids.length ?? 0
  let end = from + 1
  for (; end < tokens.length; end += 1) {
    count += tokens[end]?.ids.length ?? 0
    if (count > BATCH_TOKENS) break
  }
  return end
}

async function run(
  { binding, handle }: Loaded,
  batch: readonly Tokens[],
  wanted: Wanted,
): Promise<Float32Array> {
  const lengths = batch.map(({ ids }) => ids.length)
  const all = new Uint32Array(lengths.reduce((sum, n) => sum + n, 0))
  let at = 0
  for (const { ids } of batch) {
    all.set(ids, at)
    at += ids.length
  }
  const request = { ...wanted, lengths, second: batch.map(({ second }) => second) }
  try {
    return await binding.encode(handle, JSON.stringify(request), all)
  } catch (error) {
    throw errorFrom(error, 'internal')
  }
}

/** The tokens of a text with what the model expects around it, at most `limit`. */
function cut(tokenizer: Tokenizer, text: TextOrPair, { limit, truncate }: Cutting): Tokens {
  const [first, second] = typeof text === 'string' ? [text] : text
  const whole = tokenizer.around(first, second)
  const excess = whole.ids.length - limit
  if (whole.ids.length === 0) throw new LowbitError('option', 'A text has no tokens')
  if (excess <= 0) return whole
  if (!truncate) {
    throw new LowbitError(
      'context',
      `A text has ${whole.ids.length} tokens, the limit is ${limit}`,
      {
        remedy: 'shorten it, or leave truncate on',
      },
    )
  }
  const parts = [first, ...(second === undefined ? [] : [second])]
  return shortened(
    whole,
    parts.map((part) => tokenizer.encode(part, false)),
    excess,
  )
}

/** Takes tokens off the ends of the texts, off the longer one first; what stands around them stays. */
function shortened(whole: Tokens, parts: readonly Uint32Array[], excess: number): Tokens {
  const keep = parts.map((part) => part.length)
  for (let left = excess; left > 0; left -= 1) {
    const longest = keep.indexOf(Math.max(...keep))
    keep[longest] = Math.max(0, (keep[longest] ?? 0) - 1)
  }
  const ids: number[] = []
  let { second } = whole
  let at = 0
  for (const [i, part] of parts.entries()) {
    const start = indexOf(whole.ids, part, at)
    const end = start + part.length
    ids.push(...whole.ids.subarray(at, start), ...part.subarray(0, keep[i]))
    if (end <= whole.second) second -= part.length - (keep[i] ?? 0)
    at = end
  }
  ids.push(...whole.ids.subarray(at))
  return { ids: Uint32Array.from(ids), second: Math.min(second, ids.length) }
}

/** Where `part` stands in `whole`, from `from` on. */
function indexOf(whole: Uint32Array, part: Uint32Array, from: number): number {
  for (let start = from; start + part.length <= whole.length; start += 1) {
    if (part.every((id, i) => whole[start + i] === id)) return start
  }
  throw new LowbitError('tokenizer', 'A text has other tokens in its frame than alone', {
    remedy: 'shorten the text',
  })
}
