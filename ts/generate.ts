/** One generation: prompt to tokens, tokens to text, until the model or the caller ends it. */
import { aborted, errorFrom, LowbitError, throwIfAborted } from './error.ts'
import type { Sampling } from './generation-config.ts'
import type { Loaded } from './loaded.ts'
import { checkOptions, textList } from './option-rules.ts'
import type { GenerateOptions, Usage } from './options.ts'
import type { Message } from './text/chat.ts'
import { stopFilter, tokenStream } from './text/stream.ts'
import { needTokenizer, type Tokenizer } from './text/tokenizer.ts'

/** Tokens that are generated when nobody says how many. */
const MAX_TOKENS = 256

/** One step of a session. */
interface Step {
  readonly token?: number
}

/** What is decided before the first step. */
interface Prepared {
  readonly tokens: Uint32Array
  readonly maxTokens: number
  readonly seed: number
  readonly output: Output
  /** JSON for `Binding.sessionOpen`. */
  readonly request: string
}

/**
 * Generates text; `loaded` throws when the model has been disposed of.
 *
 * @yields {string} Text, as soon as it is certain.
 */
export async function* generate(
  loaded: () => Loaded,
  prompt: string | readonly Message[],
  options: GenerateOptions,
): AsyncGenerator<string, Usage, undefined> {
  checkOptions('generate', options)
  const { binding, handle, defaults } = loaded()
  const { tokens, maxTokens, seed, output, request } = prepare(loaded(), prompt, options)
  // A binding in a worker takes the tokens away.
  const promptTokens = tokens.length
  throwIfAborted(options.signal)
  const session = await binding.sessionOpen(handle, request).catch(rethrow)
  try {
    await binding.sessionPush(session, tokens)
    while (!output.ended && output.count < maxTokens) {
      const token = await nextToken(loaded, session, options.signal)
      const text = output.push(token, defaults.ends)
      if (text !== '') yield text
    }
    const rest = output.end()
    if (rest !== '') yield rest
  } catch (error) {
    throw options.signal?.aborted ? aborted(error) : errorFrom(error, 'internal')
  } finally {
    await binding.close(session)
  }
  const usage: Usage = {
    promptTokens,
    completionTokens: output.count,
    finishReason: output.ended ? 'stop' : 'length',
    seed,
  }
  options.onUsage?.(usage)
  return usage
}

function prepare(
  model: Loaded,
  prompt: string | readonly Message[],
  options: GenerateOptions,
): Prepared {
  const tokenizer = needTokenizer(model.tokenizer, model.place)
  const tokens = tokensOf(model, tokenizer, prompt)
  const maxTokens = roomFor(tokens.length, options.maxTokens, model)
  const sampling = samplingFor(options, model.defaults.sampling)
  const seed = options.seed ?? randomSeed()
  const output = new Output(tokenizer, tokens, options.stop)
  const request = JSON.stringify({ ...sampling, seed, context: tokens.length + maxTokens })
  return { tokens, maxTokens, seed, output, request }
}

/** The text of a generation, behind the stop strings. */
class Output {
  /** Tokens so far, the one that ended the text included. */
  count = 0
  /** Whether an end token or a stop string came. */
  ended = false
  readonly #stream: ReturnType<typeof tokenStream>
  readonly #filter: ReturnType<typeof stopFilter>

  constructor(tokenizer: Tokenizer, prompt: Uint32Array, stop: GenerateOptions['stop']) {
    const stops = stop === undefined ? [] : textList('stop', stop)
    if (stops.includes('')) throw new LowbitError('option', 'A stop string is empty')
    this.#stream = tokenStream(tokenizer, prompt)
    this.#filter = stopFilter(stops)
  }

  push(token: number, ends: ReadonlySet<number>): string {
    this.count++
    if (ends.has(token)) {
      this.ended = true
      return ''
    }
    const { text, stopped } = this.#filter.push(this.#stream.push(token))
    this.ended = stopped
    return text
  }

  /** What was held back; nothing after a stop string. */
  end(): string {
    const { text, stopped } = this.#filter.push(this.#stream.end())
    return stopped ? text : text + this.#filter.end()
  }
}

async function nextToken(
  loaded: () => Loaded,
  session: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  for (;;) {
    throwIfAborted(signal)
    const step: Step = JSON.parse(await loaded().binding.sessionNext(session))
    if (step.token !== undefined) return step.token
  }
}

function tokensOf(
  model: Loaded,
  tokenizer: Tokenizer,
  prompt: string | readonly Message[],
): Uint32Array {
  if (typeof prompt === 'string') return needTokens(tokenizer.encode(prompt, true))
  if (!model.template) {
    throw new LowbitError('template', 'The model has no chat template', {
      place: model.place,
      remedy: 'give the prompt as one text',
    })
  }
  // The template writes the special tokens itself.
  return needTokens(tokenizer.encode(model.template.render(prompt), false))
}

function needTokens(tokens: Uint32Array): Uint32Array {
  if (tokens.length > 0) return tokens
  throw new LowbitError('option', 'The prompt is empty', { remedy: 'give at least one token' })
}

function roomFor(prompt: number, asked: number | undefined, model: Loaded): number {
  const { context } = model.info
  const room = context - prompt
  const wanted = asked ?? Math.min(model.defaults.maxTokens ?? MAX_TOKENS, Math.max(room, 1))
  if (wanted <= room) return wanted
  throw new LowbitError(
    'context',
    `${prompt} tokens of prompt and ${wanted} to generate do not fit into ${context}`,
    { remedy: room > 0 ? `ask for at most ${room} tokens` : 'shorten the prompt' },
  )
}

/** What the caller says counts; asking for any kind of choice asks for sampling. */
function samplingFor(options: GenerateOptions, defaults: Sampling): Sampling {
  const { temperature, topK, topP, minP, repetitionPenalty } = options
  const asked = Object.entries({ temperature, topK, topP, minP, repetitionPenalty })
  const given = Object.fromEntries(asked.filter(([, value]) => value !== undefined))
  const wantsChoice = topK !== undefined || topP !== undefined || minP !== undefined
  const greedy = temperature === undefined && defaults.temperature === 0
  return { ...defaults, ...(wantsChoice && greedy ? { temperature: 1 } : {}), ...given }
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0
}

function rethrow(error: unknown): never {
  throw errorFrom(error, 'internal')
}
