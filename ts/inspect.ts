/** What a checkpoint holds, from its headers alone. */
import type { Binding } from './binding.ts'
import type { Json } from './bytes.ts'
import { openCheckpoint } from './checkpoint.ts'
import type { Source } from './host.ts'
import { isCodes, quantizationOf, schemeOf, weightsOf } from './quantization-config.ts'

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

/** What `inspect` returns. */
export interface Inspection {
  /** Folder, file or address. */
  readonly place: string
  /** Container and, for a quantized checkpoint, how matrices lie in it. */
  readonly format: string
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
  const quantization = quantizationOf(config)
  const tensors = Array.from(checkpoint.tensors.values(), (tensor) => {
    const { name, dtype, shape, bytes, file } = tensor
    return { name, dtype, shape, bytes, file, scheme: schemeOf(tensor, quantization) }
  })
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0)
  const parameters = [...checkpoint.tensors.values()].reduce((sum, tensor) => {
    return sum + weightsOf(tensor, quantization)
  }, 0)
  return {
    place: checkpoint.place,
    format: quantization ? `safetensors, ${quantization.format}` : 'safetensors',
    architecture: architectureOf(config),
    modelType: typeof config['model_type'] === 'string' ? config['model_type'] : null,
    parameters,
    bytes,
    bitsPerWeight: parameters > 0 ? (bytes * 8) / parameters : 0,
    schemes: countSchemes(tensors),
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

function countSchemes(tensors: readonly InspectedTensor[]): Record<string, number> {
  const counts = new Map<string, number>()
  for (const { name, scheme } of tensors) {
    // Each matrix has one tensor of codes and several that go with it.
    if (scheme === null || !isCodes(name)) continue
    counts.set(scheme, (counts.get(scheme) ?? 0) + 1)
  }
  return Object.fromEntries(counts)
}
