/** What a checkpoint holds, from its headers alone. */
import type { Binding } from './binding.ts'
import { isObject, type Json } from './bytes.ts'
import { type Checkpoint, openCheckpoint } from './checkpoint.ts'
import type { Source } from './host.ts'
import { type Engine, enginesFor, type Loads } from './quantize/engines.ts'

/** One tensor of a checkpoint. */
export interface InspectedTensor {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
  readonly file: string
  /** Scheme of the matrix that it belongs to; null when it is not quantized. */
  readonly scheme: string | null
}

/** What the core says about the quantization of a checkpoint. */
interface Described {
  /** The layout's own name for it; null for an original. */
  readonly format: string | null
  /** Why it cannot be followed. */
  readonly problem: string | null
  /** Scheme of the KV cache. */
  readonly kvCache?: string | null
  /** Why the CPU or a GPU cannot run it; null where it can. */
  readonly runs: { readonly cpu: string | null; readonly gpu: string | null }
  /** Two linears that engines join into one matrix and that differ. */
  readonly torn: string | null
  /** In the order of the request. */
  readonly tensors: readonly {
    readonly scheme: string | null
    /** Values of the original that it stands for; 0 for what goes with codes. */
    readonly weights: number
    readonly codes: boolean
  }[]
}

/** Tensors of one kind. */
export interface InspectedKind {
  /** Scheme, or data type of what is not quantized. */
  readonly name: string
  readonly tensors: number
  /** Weights, counted as the original has them. */
  readonly parameters: number
  /** With scales and whatever else goes with them. */
  readonly bytes: number
}

/** Sizes that config.json gives; null where it has none. */
export interface ModelSizes {
  readonly layers: number | null
  readonly hidden: number | null
  readonly heads: number | null
  readonly keyValueHeads: number | null
  readonly experts: number | null
  readonly vocabulary: number | null
  readonly context: number | null
}

/** What `inspect` returns. */
export interface Inspection {
  /** Folder, file or address. */
  readonly place: string
  /** Container and, for a quantized checkpoint, how matrices lie in it. */
  readonly format: string
  /** Why its quantization cannot be followed; null when it can, or when there is none. */
  readonly problem: string | null
  /** Scheme of the KV cache that it has scales for, as `fp8`; null without one. */
  readonly kvCache: string | null
  /** Class name of config.json; null without one. */
  readonly architecture: string | null
  /** Model type of config.json. */
  readonly modelType: string | null
  /** Sizes of the model; null without a config.json. */
  readonly sizes: ModelSizes | null
  /** Weights, counted as the original has them. */
  readonly parameters: number
  /** Bytes of all tensors. */
  readonly bytes: number
  /** Bytes of all tensors, in bits, over the weights. */
  readonly bitsPerWeight: number
  /** Schemes, and how many matrices have each. */
  readonly schemes: Readonly<Record<string, number>>
  /** Schemes and data types, with what each takes; the largest first. */
  readonly kinds: readonly InspectedKind[]
  /** Which engines load it, and with what caveat. */
  readonly engines: readonly Loads[]
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  /** Metadata of the files' headers. */
  readonly metadata: Readonly<Record<string, string>>
  readonly tensors: readonly InspectedTensor[]
}

/** Opens a checkpoint and describes it. */
export async function inspectSource(binding: Binding, source: Source): Promise<Inspection> {
  const checkpoint = await openCheckpoint(binding, source)
  const config = checkpoint.config?.json ?? {}
  const places = Array.from(checkpoint.tensors.values())
  const headers = places.map(({ name, dtype, shape }) => ({ name, dtype, shape }))
  const described: Described = JSON.parse(
    await binding.describe(JSON.stringify({ config, tensors: headers })),
  )
  const tensors = places.map(({ name, dtype, shape, bytes, file }, i) => {
    return { name, dtype, shape, bytes, file, scheme: described.tensors[i]?.scheme ?? null }
  })
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0)
  const parameters = described.tensors.reduce((sum, { weights }) => sum + weights, 0)
  return {
    place: checkpoint.place,
    format: [checkpoint.container, described.format].filter(Boolean).join(', '),
    problem: described.problem,
    kvCache: described.kvCache ?? null,
    architecture: architectureOf(config),
    modelType: typeof config['model_type'] === 'string' ? config['model_type'] : null,
    sizes: checkpoint.config ? sizesOf(config) : null,
    parameters,
    bytes,
    bitsPerWeight: parameters > 0 ? (bytes * 8) / parameters : 0,
    schemes: countSchemes(described),
    kinds: kindsOf(tensors, described),
    engines: loadsOf(formatOf(checkpoint, config), { config, tensors, described }),
    files: checkpoint.files.map((file) => ({ name: file.name, bytes: file.bytes })),
    metadata: Object.assign({}, ...checkpoint.files.map((file) => file.metadata)),
    tensors,
  }
}

/** Sizes under the names that configs have for them; those of a part that reads text first. */
function sizesOf(config: Json): ModelSizes {
  const text = isObject(config['text_config']) ? config['text_config'] : config
  const first = (...keys: readonly string[]): number | null => {
    const found = keys.map((key) => text[key]).find((value) => typeof value === 'number')
    return typeof found === 'number' ? found : null
  }
  return {
    layers: first('num_hidden_layers', 'n_layer', 'num_layers'),
    hidden: first('hidden_size', 'n_embd', 'd_model'),
    heads: first('num_attention_heads', 'n_head'),
    keyValueHeads: first('num_key_value_heads'),
    experts: first('num_experts', 'num_local_experts', 'n_routed_experts'),
    vocabulary: first('vocab_size'),
    context: first('max_position_embeddings', 'n_positions'),
  }
}

function kindsOf(
  tensors: readonly InspectedTensor[],
  described: Described,
): readonly InspectedKind[] {
  const kinds = new Map<string, InspectedKind>()
  for (const [i, { scheme, dtype, bytes }] of tensors.entries()) {
    const name = scheme ?? dtype
    const before = kinds.get(name) ?? { name, tensors: 0, parameters: 0, bytes: 0 }
    kinds.set(name, {
      name,
      tensors: before.tensors + 1,
      parameters: before.parameters + (described.tensors[i]?.weights ?? 0),
      bytes: before.bytes + bytes,
    })
  }
  return Array.from(kinds.values()).toSorted((a, b) => b.bytes - a.bytes)
}

interface Whole {
  readonly config: Json
  readonly tensors: readonly InspectedTensor[]
  readonly described: Described
}

/** What the table says of other engines, and what the core says of this one. */
function loadsOf(format: string, { config, tensors, described }: Whole): readonly Loads[] {
  const layers = tensors
    .filter((_, i) => described.tensors[i]?.codes)
    .map(({ name, scheme }) => ({ name: moduleOf(name), scheme: scheme ?? '' }))
  const { runs, problem, torn, kvCache } = described
  return enginesFor({ format, layers, torn, config, kvCache }).map((loads) => {
    const device = OWN[loads.engine]
    if (device === undefined) return loads
    const why = problem ?? runs[device]
    return why === null
      ? { engine: loads.engine, loads: 'yes' }
      : { engine: loads.engine, loads: 'no', note: why }
  })
}

/** The device of our own engines. */
const OWN: Readonly<Partial<Record<Engine, 'cpu' | 'gpu'>>> = {
  'lowbit CPU': 'cpu',
  'lowbit GPU': 'gpu',
  'lowbit browser': 'cpu',
}

/** The module that a tensor of codes belongs to. */
function moduleOf(name: string): string {
  return name.replace(/\.(weight|weight_packed|qweight|W_q|codes)$/, '')
}

/** How other tools call the format of a quantized checkpoint. */
function formatOf({ container }: Checkpoint, config: Json): string {
  if (container.startsWith('GGUF')) return 'gguf'
  const found = config['quantization_config']
  if (!isObject(found)) return 'safetensors'
  const { quant_method: method } = found
  if (typeof method !== 'string') return 'without a name'
  return method === 'gptq' && found['checkpoint_format'] === 'gptq_v2' ? 'gptq-v2' : method
}

function architectureOf(config: Json): string | null {
  const list: unknown = config['architectures']
  const first: unknown = Array.isArray(list) ? list[0] : undefined
  return typeof first === 'string' ? first : null
}

function countSchemes({ tensors }: Described): Record<string, number> {
  const counts = new Map<string, number>()
  for (const { scheme, codes } of tensors) {
    // Each matrix has one tensor of codes and several that go with it.
    if (scheme === null || !codes) continue
    counts.set(scheme, (counts.get(scheme) ?? 0) + 1)
  }
  return Object.fromEntries(counts)
}
