/** The inside of a model, which its own functions and `evaluate` need. */
import type { Binding } from './binding.ts'
import type { Json } from './bytes.ts'
import type { Sentence } from './encode/sentence.ts'
import { LowbitError } from './error.ts'
import type { GenerationDefaults } from './generation-config.ts'
import type { ChatTemplate } from './text/chat.ts'
import type { Tokenizer } from './text/tokenizer.ts'

/** How keys and values are rounded. */
export interface CacheInfo {
  readonly scheme: 'fp8' | 'int8'
  /** Those of the checkpoint, 1, or one for each head of each token. */
  readonly scales: 'checkpoint' | 'one' | 'token'
}

/** What a model is and how it runs. */
export interface ModelInfo {
  readonly architecture: string
  readonly layers: number
  readonly hidden: number
  readonly vocabulary: number
  /** Longest sequence in tokens. */
  readonly context: number
  readonly device: 'cpu' | 'gpu'
  readonly compute: 'f32' | 'int8'
  /** How many of the last blocks the GPU holds. */
  readonly gpuLayers: number
  readonly gpu?: { readonly name: string; readonly backend: string; readonly software: boolean }
  readonly isa: string
  readonly threads: number
  /** Bytes of the weights as they are held. */
  readonly weightBytes: number
  /** Over the linear layers that were quantized, or all of them in an original. */
  readonly bitsPerWeight: number
  /** As in `w4g128`; null for an original. */
  readonly scheme: string | null
  /** Tokens see what is before them; in encoders, their whole text. */
  readonly causal: boolean
  /** What the model can be asked for. */
  readonly tasks: readonly ('generate' | 'embed' | 'classify')[]
  /** How keys and values are rounded in the cache; null where they stay as they are. */
  readonly kvCache?: CacheInfo | null
}

/** A model's handle, and what its folder says beside the weights. */
export interface Loaded {
  readonly binding: Binding
  readonly handle: number
  readonly place: string
  readonly info: ModelInfo
  readonly tokenizer: Tokenizer | undefined
  readonly template: ChatTemplate | undefined
  readonly defaults: GenerationDefaults
  /** config.json. */
  readonly config: Json
  /** What files say about vectors; read when first asked for. */
  readonly sentence: () => Promise<Sentence>
}

const loadedModels = new WeakMap<object, Loaded>()

/** Keeps the inside of a model until it is disposed of. */
export function rememberLoaded(model: object, loaded: Loaded): void {
  loadedModels.set(model, loaded)
}

/** Forgets the inside of a model; false when it had been. */
export function disposeLoaded(model: object): boolean {
  return loadedModels.delete(model)
}

/** The inside of a model; throws when it was disposed of. */
export function loadedOf(model: object): Loaded {
  const loaded = loadedModels.get(model)
  if (loaded) return loaded
  throw new LowbitError('option', 'The model was disposed of', { remedy: 'load it again' })
}
