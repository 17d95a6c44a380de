/** What a checkpoint holds, from its headers alone. */
import type { Binding } from './binding.ts'
import type { Json } from './bytes.ts'
import { openCheckpoint } from './checkpoint.ts'
import type { Source } from './host.ts'

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
  /** In the order of the request. */
  readonly tensors: readonly {
    readonly scheme: string | null
    /** Values of the original that it stands for; 0 for what goes with codes. */
    readonly weights: number
    readonly codes: boolean
  }[]
}

/** What `inspect` returns. */
export interface Inspection {
  /** Folder, file or address. */
  readonly place: string
  /** Container and, for a quantized checkpoint, how matrices lie in it. */
  readonly format: string
  /** Why its quantization cannot be followed; null when it can, or when there is none. */
  readonly problem: string | null
  /** Class name of config.json; null without one. */
  readonly architecture: string | null
  /** Model type of config.json. */
  readonly modelType: string | null
  /** Weights, counted as the original has them. */
  readonly parameters: number
  /** Bytes of all tensors. */
  readonly bytes: number
  /** Bytes of all tensors, in bits, over the weights. */
  readonly bitsPerWeight: number
  /** Schemes, and how many matrices have each. */
  readonly schemes: Readonly<Record<string, number>>
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
    architecture: architectureOf(config),
    modelType: typeof config['model_type'] === 'string' ? config['model_type'] : null,
    parameters,
    bytes,
    bitsPerWeight: parameters > 0 ? (bytes * 8) / parameters : 0,
    schemes: countSchemes(described),
    files: checkpoint.files.map((file) => ({ name: file.name, bytes: file.bytes })),
    metadata: Object.assign({}, ...checkpoint.files.map((file) => file.metadata)),
    tensors,
  }
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
