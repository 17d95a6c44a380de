/** What every job of the core is surrounded by: a plan, an output, the texts of its source. */
import type { Binding } from '../binding.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { errorFrom } from '../error.ts'
import { type Host, type Output, storeOutput } from '../host.ts'
import { memoryStore } from '../store/memory.ts'
import { readOptional, type Store } from '../store/store.ts'

const CARD_BYTES_MAX = 1 << 20

/** Asks for the plan of a request. */
export async function planFrom<Plan>(
  binding: Binding,
  request: string,
  place: string,
): Promise<Plan> {
  try {
    const plan: Plan = JSON.parse(await binding.plan(request))
    return plan
  } catch (error) {
    throw errorFrom(error, 'internal', place)
  }
}

/** Opens a job, lends it to `use` and frees it, whatever happens. */
export async function withJob<T>(
  binding: Binding,
  request: string,
  tokens: Uint32Array,
  use: (job: number) => Promise<T>,
): Promise<T> {
  const job = await binding.jobOpen(request, tokens).catch((error: unknown) => {
    throw errorFrom(error, 'internal')
  })
  try {
    return await use(job)
  } finally {
    await binding.close(job)
  }
}

/** Where a result goes, and what may be in the way. */
export interface Place {
  readonly out: string | Store
  readonly force?: boolean | undefined
  readonly fresh?: boolean | undefined
}

/** Opens an output, has it filled and publishes it; `inputs` are places that are read. */
export async function withOutput<T>(
  host: Host,
  { out, force = false, fresh = false }: Place,
  inputs: readonly string[],
  fill: (output: Output) => Promise<T>,
): Promise<T> {
  const output =
    typeof out === 'string'
      ? await host.output(out, { force, inputs })
      : await storeOutput(out, memoryStore([], 'scratch'))
  try {
    if (fresh) await output.clear()
    const done = await fill(output)
    await output.publish()
    return done
  } finally {
    await output.close()
  }
}

/** What an output is called in a report. */
export function placeOf(out: string | Store): string {
  return typeof out === 'string' ? out : out.place
}

/** Bytes of a checkpoint's tensor files. */
export function bytesOf(checkpoint: Checkpoint): number {
  return checkpoint.files.reduce((bytes, file) => bytes + file.bytes, 0)
}

/** What identifies each file of a checkpoint, its name behind `prefix`. */
export function identitiesOf(
  checkpoint: Checkpoint,
  prefix = '',
): Readonly<Record<string, string>> {
  return Object.fromEntries(checkpoint.files.map(({ name, identity }) => [prefix + name, identity]))
}

/** A model card; nothing where there is none, or none that can be read. */
export async function cardOf(store: Store, name = 'README.md'): Promise<string | undefined> {
  const bytes = await readOptional(store, name, CARD_BYTES_MAX).catch(() => undefined)
  return bytes && new TextDecoder().decode(bytes)
}
