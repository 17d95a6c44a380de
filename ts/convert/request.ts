/** A conversion as the core is asked for it. */
import type { Json } from '../bytes.ts'
import { type Checkpoint, readTensor, requestText, type TensorPlace } from '../checkpoint.ts'
import type { ConvertOptions } from '../options.ts'
import type { Driving } from '../quantize/drive.ts'
import { identitiesOf } from '../quantize/job.ts'
import type { Adapter } from './adapter.ts'

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
      ...identitiesOf(checkpoint),
      ...(adapter && identitiesOf(adapter.tensors, PREFIX)),
    },
  })
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
