// Projects that target an older library still know `Symbol.asyncDispose`.
/// <reference lib="esnext.disposable" preserve="true" />
/** A loaded model: what `load` returns. */
import type { Binding } from './binding.ts'
import { type Checkpoint, configOf, openCheckpoint, readTensor, requestText } from './checkpoint.ts'
import type { TextOrPair } from './encode/batch.ts'
import { type Classification, classifyTexts } from './encode/classify.ts'
import { embedTexts } from './encode/embed.ts'
import { readSentence, type Sentence } from './encode/sentence.ts'
import { errorFrom, LowbitError, throwIfAborted } from './error.ts'
import { generate } from './generate.ts'
import { readDefaults } from './generation-config.ts'
import type { Host, Source } from './host.ts'
import type {
  ClassifyOptions,
  EmbedOptions,
  GenerateOptions,
  LoadOptions,
  Usage,
} from './options.ts'
import { disposeLoaded, type Loaded, loadedOf, type ModelInfo, rememberLoaded } from './loaded.ts'
import { meter, type Work } from './progress.ts'
import { type Message, openTemplate } from './text/chat.ts'
import { needTokenizer, openTokenizer, type Tokenizer } from './text/tokenizer.ts'

/** A model in memory. Generations on it may run at the same time. */
export interface Model {
  /** Folder or address. */
  readonly place: string
  readonly info: ModelInfo
  /** Bytes of the files that hold tensors. */
  readonly bytes: number
  /**
   * Text that follows a prompt or a conversation, in pieces as they are known.
   * The iterator returns the usage. Throws `context` when prompt and output do not fit,
   * `template` when the model has no chat template or it fails, and `aborted`.
   *
   * @example
   * for await (const piece of model.generate('Once upon a time', { maxTokens: 64 })) write(piece)
   */
  generate(
    prompt: string | readonly Message[],
    options?: GenerateOptions,
  ): AsyncGenerator<string, Usage, undefined>
  /** Logits of every token, row-major `[tokens, vocabulary]`. */
  logits(tokens: Uint32Array): Promise<Float32Array>
  /**
   * One vector per text, pooled and normalized as the files of sentence-transformers beside the
   * model say. Texts are run in batches of similar length, and cut where the model ends. Throws
   * `unsupported` on a GPU and for modules that are not computed, and `aborted`.
   *
   * @example
   * const [fox, dog] = await model.embed(['a fast fox', 'a quick brown dog'])
   */
  embed(texts: string | readonly string[], options?: EmbedOptions): Promise<Float32Array[]>
  /**
   * Labels and scores of texts, or of pairs of texts as cross-encoders take them. Throws
   * `unsupported` for a model without a classification head.
   *
   * @example
   * const [{ label, score }] = await model.classify('what a lovely day')
   */
  classify(
    texts: string | readonly TextOrPair[],
    options?: ClassifyOptions,
  ): Promise<Classification[]>
  /** Ids of a text; with `special`, what the model expects around a text is added. */
  tokenize(text: string, special?: boolean): Uint32Array
  /** Text of ids, without special tokens. */
  detokenize(tokens: Iterable<number>): string
  /** Frees the memory; generations that are under way fail. */
  dispose(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Loads a model from a source. */
export async function loadModel(
  binding: Binding,
  host: Host,
  source: Source,
  options: LoadOptions,
): Promise<Model> {
  const checkpoint = await openCheckpoint(binding, source)
  const tokenizer = await openTokenizer(checkpoint.store, host.within)
  const template = tokenizer && (await openTemplate(checkpoint.store, tokenizer))
  const defaults = await readDefaults(checkpoint, tokenizer)
  const handle = await open(binding, host, checkpoint, options)
  try {
    const info = await feed(binding, handle, checkpoint, options)
    const { place, store } = checkpoint
    const config = configOf(checkpoint).json
    let files: Promise<Sentence> | undefined
    const sentence = (): Promise<Sentence> => (files ??= readSentence(binding, store))
    return modelOf(
      { binding, handle, place, info, tokenizer, template, defaults, config, sentence },
      checkpoint.files.reduce((bytes, file) => bytes + file.bytes, 0),
    )
  } catch (error) {
    await binding.close(handle)
    throw errorFrom(error, 'internal')
  }
}

function modelOf(loaded: Loaded, bytes: number): Model {
  const { binding, handle, place, info } = loaded
  const tokenizer = (): Tokenizer => needTokenizer(loaded.tokenizer, place)
  const model: Model = {
    place,
    info,
    bytes,
    generate: (prompt, options = {}) => generate(() => loadedOf(model), prompt, options),
    async logits(tokens) {
      checkTokens(tokens, loadedOf(model).info)
      // A copy, because a binding in a worker takes its arguments away.
      return binding.logits(handle, tokens.slice()).catch(rethrow)
    },
    embed: (texts, options = {}) => embedTexts(() => loadedOf(model), texts, options),
    classify: (texts, options = {}) => classifyTexts(() => loadedOf(model), texts, options),
    tokenize: (text, special = false) => tokenizer().encode(text, special),
    detokenize: (tokens) => tokenizer().decode(tokens),
    async dispose() {
      if (disposeLoaded(model)) await binding.close(handle)
    },
    [Symbol.asyncDispose]: () => model.dispose(),
  }
  rememberLoaded(model, loaded)
  return model
}

async function open(
  binding: Binding,
  host: Host,
  checkpoint: Checkpoint,
  options: LoadOptions,
): Promise<number> {
  const {
    device = 'auto',
    compute = 'auto',
    threads = host.threads,
    gpuLayers,
    isa,
    context,
    kvCache,
  } = options
  const run = { device, compute, threads, gpuLayers, isa, context, kvCache }
  const request = requestText(checkpoint, run)
  try {
    return await binding.modelOpen(request)
  } catch (error) {
    throw errorFrom(error, 'internal', checkpoint.place)
  }
}

/** What the loader asks for. */
type Ask =
  | ({ readonly kind: 'read'; readonly tensors: readonly string[] } & Partial<Work>)
  | ({ readonly kind: 'work' } & Work)
  | { readonly kind: 'done'; readonly info: ModelInfo }

async function feed(
  binding: Binding,
  handle: number,
  checkpoint: Checkpoint,
  options: LoadOptions,
): Promise<ModelInfo> {
  const report = meter(options)
  let answer: Uint8Array[] = []
  for (;;) {
    throwIfAborted(options.signal)
    const ask: Ask = JSON.parse((await binding.modelPoll(handle, answer)).ask)
    if (ask.kind === 'done') return ask.info
    if (ask.done !== undefined && ask.total !== undefined) {
      report({
        stage: ask.stage ?? 'load',
        layer: ask.layer ?? null,
        done: ask.done,
        total: ask.total,
      })
    }
    answer = ask.kind === 'read' ? await readAll(checkpoint, ask.tensors) : []
  }
}

function readAll(checkpoint: Checkpoint, names: readonly string[]): Promise<Uint8Array[]> {
  return Promise.all(names.map((name) => readTensor(checkpoint, name)))
}

function checkTokens(tokens: Uint32Array, info: ModelInfo): void {
  if (!(tokens instanceof Uint32Array) || tokens.length === 0) {
    throw new LowbitError('option', 'Tokens must be a Uint32Array that is not empty')
  }
  if (tokens.length > info.context) {
    throw new LowbitError('context', `${tokens.length} tokens do not fit into ${info.context}`)
  }
  const odd = tokens.find((token) => token >= info.vocabulary)
  if (odd === undefined) return
  throw new LowbitError('option', `Token ${odd} is not in a vocabulary of ${info.vocabulary}`)
}

function rethrow(error: unknown): never {
  throw errorFrom(error, 'internal')
}
