/** Does what a job asks for, until it is done. */
import type { Binding, Polled } from '../binding.ts'
import { errorFrom, LowbitError, throwIfAborted } from '../error.ts'
import type { Output } from '../host.ts'
import type { Meter, Work } from '../progress.ts'
import type { Range, Store, Writing } from '../store/store.ts'
import type { CoreReport, Plan } from './report.ts'

/** A run of bytes of something named. */
interface Part {
  readonly name: string
  readonly offset: number
  readonly len: number
}

/** Where a piece of a file goes; `total` is the length of the whole. */
interface Place {
  readonly name: string
  readonly total: number
  readonly offset: number
}

/** What a job wants done before it can go on. */
type Ask<Report> =
  | { readonly kind: 'read'; readonly tensors: readonly string[] }
  | ({ readonly kind: 'readRange'; readonly tensor: string } & Omit<Part, 'name'>)
  | ({ readonly kind: 'readScratch' | 'readOutput' } & Part)
  | ({ readonly kind: 'writeScratch' } & Omit<Part, 'len'>)
  | ({ readonly kind: 'write'; readonly total: number } & Omit<Part, 'len'>)
  | { readonly kind: 'journal'; readonly line: string }
  | ({ readonly kind: 'work' } & Work)
  | { readonly kind: 'done'; readonly report: Report }

/** A job and the world that it works on. */
export interface Driving {
  readonly binding: Binding
  readonly job: number
  /** Reads a tensor of the source, or a part of it. */
  readonly read: (tensor: string, part?: Range) => Promise<Uint8Array>
  readonly plan: Pick<Plan, 'outputs'>
  readonly output: Output
  readonly signal: AbortSignal | undefined
  readonly report: Meter
}

/** What a finished job leaves. */
export interface Driven<Report = CoreReport> {
  readonly report: Report
  /** Seconds spent in each block. */
  readonly seconds: ReadonlyMap<number, number>
}

/** Polls a job to its end; its files are then committed. On failure they stay, to be resumed. */
export async function drive<Report = CoreReport>(driving: Driving): Promise<Driven<Report>> {
  const files = new OpenFiles(driving.output.store)
  const scratch = new OpenFiles(driving.output.scratch)
  const clock = new BlockClock()
  let answer: Uint8Array[] = []
  let loss: number | undefined
  try {
    for (;;) {
      throwIfAborted(driving.signal)
      const polled = await poll(driving, answer, [...files.spent(), ...scratch.spent()])
      const ask: Ask<Report> = JSON.parse(polled.ask)
      if (ask.kind === 'done') {
        // Files that an earlier run finished were not asked for in this one.
        for (const { file, bytes } of driving.plan.outputs) await files.open(file, bytes)
        await files.commit()
        return { report: ask.report, seconds: clock.seconds }
      }
      if (ask.kind === 'work') {
        clock.tick(ask.layer ?? undefined)
        driving.report(loss === undefined ? ask : { ...ask, loss })
      }
      if (ask.kind === 'journal') loss = lossOf(ask.line) ?? loss
      answer = await doAsked(driving, { ask, polled, files, scratch })
    }
  } finally {
    await files.suspend()
    await scratch.suspend()
  }
}

/** Mean relative error of the layers that a line of the journal reports. */
function lossOf(line: string): number | undefined {
  const { layers = [] }: CoreReport = JSON.parse(line)
  const sum = layers.reduce((all, { relativeError }) => all + relativeError, 0)
  return layers.length > 0 ? sum / layers.length : undefined
}

interface Asked {
  readonly ask: Exclude<Ask<never>, { kind: 'done' }>
  readonly polled: Polled
  readonly files: OpenFiles
  readonly scratch: OpenFiles
}

async function doAsked(driving: Driving, asked: Asked): Promise<Uint8Array[]> {
  const { ask, polled, files, scratch } = asked
  switch (ask.kind) {
    case 'read':
    case 'readRange':
    case 'readScratch':
    case 'readOutput':
      return readAsked(driving, asked, ask)
    case 'writeScratch':
      await scratch.write({ name: ask.name, total: Infinity, offset: ask.offset }, bytesOf(polled))
      return []
    case 'write':
      await files.write(ask, bytesOf(polled))
      return []
    case 'journal':
      // The line vouches for what was written before it.
      await files.flush()
      await scratch.flush()
      await driving.output.journal.append(ask.line)
      return []
    case 'work':
      return []
    default:
      throw new LowbitError('internal', `The job asked for ${JSON.stringify(ask)}`)
  }
}

async function readAsked(
  driving: Driving,
  { files, scratch }: Asked,
  ask: Extract<Ask<never>, { kind: `read${string}` }>,
): Promise<Uint8Array[]> {
  const { plan, read } = driving
  if (ask.kind === 'read') {
    return Promise.all(ask.tensors.map((name) => read(name)))
  }
  const range = { offset: ask.offset, length: ask.len }
  if (ask.kind === 'readRange') return [await read(ask.tensor, range)]
  const total = plan.outputs.find(({ file }) => file === ask.name)?.bytes ?? 0
  const bytes =
    ask.kind === 'readScratch'
      ? scratch.read(ask.name, Infinity, range)
      : files.read(ask.name, total, range)
  return [await bytes]
}

async function poll(driving: Driving, answer: Uint8Array[], spent: Uint8Array[]): Promise<Polled> {
  try {
    return await driving.binding.jobPoll(driving.job, answer, spent)
  } catch (error) {
    throw errorFrom(error, 'internal')
  }
}

function bytesOf(polled: Polled): Uint8Array {
  const bytes = polled.data[0]
  if (bytes) return bytes
  throw new LowbitError('internal', 'The job asked to write and gave nothing to write')
}

/**
 * Files that a job writes piece by piece. The last piece may still be on its way while the job
 * computes the next one; whatever else is done here waits for it first, and throws what it threw.
 */
class OpenFiles {
  readonly #store: Store
  readonly #files = new Map<string, Writing>()
  #behind: { readonly bytes: Uint8Array; readonly done: Promise<void> } | undefined
  #spent: Uint8Array[] = []

  constructor(store: Store) {
    this.#store = store
  }

  async open(name: string, bytes: number): Promise<Writing> {
    const known = this.#files.get(name)
    if (known) return known
    const file = await this.#store.begin(name, bytes)
    this.#files.set(name, file)
    return file
  }

  async read(name: string, total: number, range: Range): Promise<Uint8Array> {
    await this.#settled()
    return (await this.open(name, total)).read(range)
  }

  /** Begins to write; resolves when the piece before is written. */
  async write(place: Place, bytes: Uint8Array): Promise<void> {
    await this.#settled()
    const file = await this.open(place.name, place.total)
    const done = file.write(place.offset, bytes)
    // Whoever waits for it gets the error.
    done.catch(() => undefined)
    this.#behind = { bytes, done }
  }

  /** What was written since the last call, and is not needed any more. */
  spent(): Uint8Array[] {
    return this.#spent.splice(0)
  }

  async flush(): Promise<void> {
    await this.#settled()
    for (const file of this.#files.values()) await file.flush()
  }

  async commit(): Promise<void> {
    await this.#settled()
    for (const file of this.#files.values()) await file.commit()
  }

  /** Leaves files as they are; by now there is another error to tell of, or none. */
  async suspend(): Promise<void> {
    await this.#settled().catch(() => undefined)
    for (const file of this.#files.values()) await file.suspend()
  }

  async #settled(): Promise<void> {
    const behind = this.#behind
    this.#behind = undefined
    await behind?.done
    if (behind) this.#spent.push(behind.bytes)
  }
}

/** Shares out the time between blocks. */
class BlockClock {
  readonly seconds = new Map<number, number>()
  #last = performance.now()

  tick(block: number | undefined): void {
    const now = performance.now()
    if (block !== undefined) {
      this.seconds.set(block, (this.seconds.get(block) ?? 0) + (now - this.#last) / 1000)
    }
    this.#last = now
  }
}
