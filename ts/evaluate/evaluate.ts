/** Perplexity of a model on a text, and how far it is from its original. */
import { errorFrom, LowbitError, throwIfAborted } from '../error.ts'
import { type CacheInfo, type Loaded, loadedOf } from '../loaded.ts'
import type { Model } from '../model.ts'
import type { Watching } from '../watching.ts'
import { meter } from '../progress.ts'
import { needTokenizer } from '../text/tokenizer.ts'

/** Figures of a model on a text, as the papers define them. */
export interface Evaluation {
  /** Folder or address of the model. */
  readonly model: string
  /** Tokens of the text. */
  readonly tokens: number
  /** Tokens of a window; the windows do not overlap and the tail is dropped. */
  readonly window: number
  readonly windows: number
  /** Positions that were scored: all of a window but its first. */
  readonly positions: number
  /** exp of `nll`. */
  readonly perplexity: number
  /** Mean negative log-likelihood in nats. */
  readonly nll: number
  readonly bitsPerWeight: number
  /** Bytes of the files that hold tensors. */
  readonly bytes: number
  /** How the model ran. */
  readonly compute: string
  readonly device: string
  /** How keys and values were rounded, where they were. */
  readonly kvCache?: CacheInfo
  /** The original. */
  readonly reference?: { readonly model: string; readonly perplexity: number; readonly nll: number }
  /** Mean over all positions of KL(reference ‖ model) over the whole vocabulary, in nats. */
  readonly meanKld?: number
  /** 99th percentile of the same. */
  readonly p99Kld?: number
  /** Share of positions whose most likely token is the same. */
  readonly sameTop?: number
}

/** What is measured. */
export interface Measurement extends Watching {
  readonly text: string
  readonly window?: number | undefined
  readonly reference?: Model | undefined
}

/** Tokens of a window when nobody says how many; less where the context is shorter. */
const WINDOW = 512

/** What `Binding.score` returns about one window. */
interface Sums {
  readonly positions: number
  readonly nll: number
  readonly referenceNll?: number | null
  readonly sameTop?: number | null
}

/** Scores a text window by window; the sums are formed in the core. */
export async function evaluateModel(model: Model, what: Measurement): Promise<Evaluation> {
  const loaded = loadedOf(model)
  const reference = what.reference && loadedOf(what.reference)
  const window = windowOf(what.window, loaded)
  const tokens = needTokenizer(loaded.tokenizer, loaded.place).encode(what.text, false)
  const windows = Math.floor(tokens.length / window)
  if (windows === 0) {
    throw new LowbitError('dataset', `The text has ${tokens.length} tokens, less than a window`, {
      remedy: `give more text or a window of at most ${tokens.length} tokens`,
    })
  }
  if (reference) checkComparable(loaded, reference, window)
  const totals = new Totals()
  const report = meter(what)
  for (let i = 0; i < windows; i++) {
    throwIfAborted(what.signal)
    report({ stage: 'evaluate', done: i, total: windows })
    // A copy, because a binding in a worker takes its arguments away.
    await totals.add(loaded, reference, tokens.slice(i * window, (i + 1) * window))
  }
  report({ stage: 'evaluate', done: windows, total: windows })
  return {
    model: model.place,
    tokens: tokens.length,
    window,
    windows,
    ...totals.own(),
    bitsPerWeight: model.info.bitsPerWeight,
    bytes: model.bytes,
    compute: model.info.compute,
    device: model.info.device,
    ...(model.info.kvCache ? { kvCache: model.info.kvCache } : {}),
    ...(reference ? totals.against(reference.place) : {}),
  }
}

class Totals {
  #positions = 0
  #nll = 0
  #referenceNll = 0
  #sameTop = 0
  readonly #kl: Float32Array[] = []

  async add(model: Loaded, reference: Loaded | undefined, tokens: Uint32Array): Promise<void> {
    const { sums, kl } = await model.binding
      .score(model.handle, reference?.handle ?? 0, tokens)
      .catch((error: unknown) => {
        throw errorFrom(error, 'internal')
      })
    const window: Sums = JSON.parse(sums)
    this.#positions += window.positions
    this.#nll += window.nll
    this.#referenceNll += window.referenceNll ?? 0
    this.#sameTop += window.sameTop ?? 0
    this.#kl.push(kl)
  }

  own(): Pick<Evaluation, 'positions' | 'perplexity' | 'nll'> {
    const nll = this.#nll / this.#positions
    return { positions: this.#positions, perplexity: Math.exp(nll), nll }
  }

  against(model: string): Partial<Evaluation> {
    const nll = this.#referenceNll / this.#positions
    const sorted = sortedOf(this.#kl)
    return {
      reference: { model, perplexity: Math.exp(nll), nll },
      meanKld: sorted.reduce((sum, value) => sum + value, 0) / sorted.length,
      p99Kld: percentile(sorted, 0.99),
      sameTop: this.#sameTop / this.#positions,
    }
  }
}

function windowOf(asked: number | undefined, { info }: Loaded): number {
  const window = asked ?? Math.min(WINDOW, info.context)
  if (window <= info.context) return window
  throw new LowbitError('context', `A window of ${window} tokens is longer than ${info.context}`, {
    remedy: `use at most ${info.context}`,
  })
}

function checkComparable(model: Loaded, reference: Loaded, window: number): void {
  const [own, other] = [model.info, reference.info]
  if (own.vocabulary !== other.vocabulary) {
    throw new LowbitError(
      'option',
      `The reference has ${other.vocabulary} tokens and the model ${own.vocabulary}`,
      { place: reference.place, remedy: 'compare with the model this one was made from' },
    )
  }
  if (model.binding !== reference.binding) {
    throw new LowbitError('option', 'Model and reference were loaded by different bindings')
  }
  windowOf(window, reference)
}

function sortedOf(parts: readonly Float32Array[]): Float64Array {
  const all = new Float64Array(parts.reduce((count, part) => count + part.length, 0))
  let done = 0
  for (const part of parts) {
    all.set(part, done)
    done += part.length
  }
  return all.toSorted()
}

/** Between the two nearest values, as NumPy's default does. */
function percentile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1)
  const low = sorted[Math.floor(at)] ?? Number.NaN
  const high = sorted[Math.ceil(at)] ?? low
  return low + (high - low) * (at - Math.floor(at))
}
