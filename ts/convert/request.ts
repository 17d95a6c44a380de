/** A conversion as the core is asked for it. */
import type { Binding } from '../binding.ts'
import type { Json } from '../bytes.ts'
import { type Checkpoint, readTensor, requestText, type TensorPlace } from '../checkpoint.ts'
import { errorFrom } from '../error.ts'
import type { ConvertOptions } from '../options.ts'
import type { Driving } from '../quantize/drive.ts'
import type { Adapter } from './adapter.ts'
import type { CoreConvertPlan } from './report.ts'

/** What the core calls the tensors of an adapter by. */
const PREFIX = 'adapter:'

/** What a request is made from, beside the checkpoint. */
export interface RequestParts {
  readonly options: ConvertOptions
  readonly adapter: Adapter | undefined
  /** What a GGUF file holds beside tensors. */
  readonly gguf: Json | undefined
  readonly threads: number
  readonly journal: readonly string[]
}

/** JSON for `Binding.plan` and `Binding.jobOpen`. */
export function jobText(checkpoint: Checkpoint, parts: RequestParts): string {
  const { options, adapter, gguf, journal } = parts
  const { format, scheme, dtype, scaleDtype, observer, exact, isa, maxShardBytes } = options
  return requestText(checkpoint, {
    kind: 'convert',
    options: { format, scheme, dtype, scaleDtype, observer, exact },
    adapter: adapter && { config: adapter.config, tensors: entries(adapter.tensors) },
    gguf,
    journal,
    threads: options.threads ?? parts.threads,
    isa,
    maxShardBytes,
    identities: {
      ...identities(checkpoint, ''),
      ...(adapter && identities(adapter.tensors, PREFIX)),
    },
  })
}

/** Asks for the plan. */
export async function planFrom(
  binding: Binding,
  text: string,
  place: string,
): Promise<CoreConvertPlan> {
  try {
    const plan: CoreConvertPlan = JSON.parse(await binding.plan(text))
    return plan
  } catch (error) {
    throw errorFrom(error, 'internal', place)
  }
}

/** Reads tensors of the source, and of the adapter by their longer names. */
export function reader(checkpoint: Checkpoint, adapter: Adapter | undefined): Driving['read'] {
  return (tensor, part) =>
    adapter && tensor.startsWith(PREFIX)
      ? readTensor(adapter.tensors, tensor.slice(PREFIX.length), part)
      : readTensor(checkpoint, tensor, part)
}

function entries({
  tensors,
}: Checkpoint): readonly Pick<TensorPlace, 'name' | 'dtype' | 'shape'>[] {
  return Array.from(tensors.values(), ({ name, dtype, shape }) => ({ name, dtype, shape }))
}

function identities(checkpoint: Checkpoint, prefix: string): Readonly<Record<string, string>> {
  return Object.fromEntries(checkpoint.files.map(({ name, identity }) => [prefix + name, identity]))
}
