/** The jobs of the fake binding: plans, a rounder that flips bits, a survey that chooses nothing. */
import type { Polled } from '../ts/binding.ts'
import { safetensors } from './helpers.ts'

/** Any JSON object. */
export type Json = Record<string, unknown>

/** What the fake looks at in a request. */
export interface Request extends Json {
  readonly config: Json
  readonly tensors: readonly Tensor[]
  readonly options: {
    readonly method: string
    readonly format?: string
    readonly scheme: string
    readonly targetBpw?: number | null
  }
  readonly journal?: readonly string[]
}

/** A tensor of the source. */
export interface Tensor {
  name: string
  dtype: keyof typeof BYTES
  shape: number[]
}

const BYTES = { BF16: 2, F16: 2, F32: 4, I32: 4, I64: 8, U8: 1 } as const

/** Flips every tensor, one at a time, through a scratch file, with a line of journal after each. */
export class FakeJob {
  readonly #plan: ReturnType<typeof planOf>
  readonly #steps: (() => Polled)[]
  #answer: Uint8Array[] = []

  constructor(request: Request, tokens: Uint32Array) {
    this.#plan = planOf(request)
    if (this.#plan['kind'] === 'sensitivity') {
      this.#steps = surveySteps(request)
      return
    }
    const identity = JSON.stringify({ identity: [request.options, tokens.length] })
    const journal = request.journal ?? []
    if (journal.length > 0 && journal[0] !== identity) fail('resume-mismatch', 'the options differ')
    const steps = journal.length > 0 ? [] : [() => ask({ kind: 'journal', line: identity })]
    const done = Math.max(journal.length - 1, 0)
    if (done === 0) steps.push(() => this.#write(0, this.#plan.head))
    for (const [i, tensor] of this.#plan.tensors.entries()) {
      if (i >= done) steps.push(...this.#tensorSteps(i, tensor.name))
    }
    this.#steps = steps
  }

  poll(answer: Uint8Array[]): Polled {
    this.#answer = answer
    const step = this.#steps.shift()
    return step ? step() : ask({ kind: 'done', report: { layers: this.#layers() } })
  }

  #tensorSteps(i: number, name: string): (() => Polled)[] {
    const { offsets, tensors } = this.#plan
    const scratch = { name: 'activations', offset: i * 8 }
    return [
      () => ask({ kind: 'work', stage: 'quantize', layer: i, done: i, total: tensors.length }),
      () => ask({ kind: 'read', tensors: [name] }),
      () => {
        const [bytes = new Uint8Array(0)] = this.#answer
        return ask({ kind: 'writeScratch', ...scratch, offset: offsets[i] ?? 0 }, bytes)
      },
      () => ask({ kind: 'readScratch', ...scratch, offset: offsets[i] ?? 0, len: this.#bytes(i) }),
      () => {
        const [bytes = new Uint8Array(0)] = this.#answer
        return this.#write(
          offsets[i] ?? 0,
          bytes.map((byte) => byte ^ 0x55),
        )
      },
      () => ask({ kind: 'journal', line: JSON.stringify({ done: name }) }),
    ]
  }

  #bytes(i: number): number {
    const end = this.#plan.offsets[i + 1] ?? this.#plan.total
    return end - (this.#plan.offsets[i] ?? 0)
  }

  #write(offset: number, bytes: Uint8Array): Polled {
    return ask({ kind: 'write', name: 'model.safetensors', total: this.#plan.total, offset }, bytes)
  }

  #layers(): Json[] {
    return this.#plan.layers.map((layer) => ({ ...layer, mse: 0.001, relativeError: 0.1 }))
  }
}

/** A survey that keeps activations and then gives the first linear more bits. */
function surveySteps({ options, tensors }: Request): (() => Polled)[] {
  const report = {
    targetBpw: options.targetBpw,
    bitsPerWeight: 4.5,
    expectedKl: 0.01,
    measuredTokens: 512,
    table: [{}],
    options: {
      ...options,
      targetBpw: null,
      candidates: [],
      layers: [{ pattern: tensors[0]?.name, scheme: 'w8' }],
    },
  }
  return [
    () => ask({ kind: 'work', stage: 'survey', done: 0, total: 1 }),
    () => ask({ kind: 'writeScratch', name: 'activations', offset: 0 }, new Uint8Array(64)),
    () => ask({ kind: 'done', report }),
  ]
}

/** The plan of a request. */
export function planOf(request: Request): {
  layers: { name: string; rows: number; cols: number; scheme: string; method: string }[]
  tensors: readonly Tensor[]
  head: Uint8Array
  offsets: number[]
  total: number
  [key: string]: unknown
} {
  const { options, tensors } = request
  if (!['rtn', 'gptq', 'hqq'].includes(options.method))
    fail('option', `unknown method "${options.method}"`)
  const empty = Object.fromEntries(
    tensors.map(({ name, dtype, shape }) => [
      name,
      { dtype, shape, data: new Uint8Array(size({ dtype, shape })) },
    ]),
  )
  const whole = safetensors(empty)
  const start = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true))
  const offsets: number[] = []
  let at = start
  for (const tensor of tensors) {
    offsets.push(at)
    at += size(tensor)
  }
  const layers = tensors
    .filter(({ shape }) => shape.length === 2)
    .map(({ name, shape: [rows = 0, cols = 0] }) => ({
      name,
      rows,
      cols,
      scheme: options.scheme,
      method: options.method,
    }))
  const targeted = (options.targetBpw ?? undefined) !== undefined
  return {
    kind: targeted ? 'sensitivity' : 'quantize',
    layers,
    ignored: [],
    torn: null,
    outputs: [{ file: 'model.safetensors', bytes: at }],
    bitsPerWeight: 4.125,
    memoryPeakBytes: 1000,
    scratchBytes: 1000,
    outputBytes: at,
    warnings: [],
    options: { ignore: ['lm_head'], damp: 0.01, ...options, format: formatOf(options.format) },
    fingerprint: 'f',
    tensorParallel: [{ ranks: 1 }, { ranks: 2, why: '3 key heads' }],
    config: JSON.stringify({ ...request.config, quantization_config: { fake: true } }),
    tensors,
    head: whole.slice(0, start),
    offsets,
    total: at,
  }
}

/** The core names the format that the scheme is written in. */
function formatOf(asked: unknown): unknown {
  return asked === 'auto' ? 'compressed-tensors' : asked
}

function size({ dtype, shape }: Pick<Tensor, 'dtype' | 'shape'>): number {
  return shape.reduce((product, dim) => product * dim, BYTES[dtype])
}

/** What the core wants next. */
export function ask(what: Json, ...data: Uint8Array[]): Polled {
  return { ask: JSON.stringify(what), data }
}

/** Fails as the core does. */
export function fail(code: string, message: string): never {
  throw Object.assign(new Error(message), { code })
}
