/**
 * A binding without Rust: a rounder that flips bits and a model that adds. It asks for what the
 * real one asks for, in the same order, so that everything around it can be tested by itself.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Binding, Polled, Scored } from '../ts/binding.ts'
import { safetensors } from './helpers.ts'

/** How the fake behaves; everything may be left out. */
export interface Fake {
  /** Milliseconds that a step of a job takes. */
  readonly stepMs?: number
  /** Tokens of the vocabulary. */
  readonly vocabulary?: number
  readonly context?: number
  /** Tokens that are generated one after another, then again. */
  readonly script?: readonly number[]
  /** Called with every request. */
  readonly onRequest?: (name: string, request: Json) => void
}

type Json = Record<string, unknown>

/** What the fake looks at in a request. */
interface Request extends Json {
  readonly config: Json
  readonly tensors: readonly Tensor[]
  readonly options: { readonly method: string; readonly scheme: string; readonly ignore?: string[] }
  readonly journal?: readonly string[]
}

interface Tensor {
  name: string
  dtype: keyof typeof BYTES
  shape: number[]
}

const BYTES = { BF16: 2, F16: 2, F32: 4, I32: 4, I64: 8, U8: 1 } as const

/** Opens a fake. */
export function fakeBinding(fake: Fake = {}): Binding {
  const jobs = new Map<number, FakeJob>()
  const sessions = new Map<number, { request: Json; tokens: number[]; step: number }>()
  const models = new Map<number, string[]>()
  let next = 1
  const heard = (name: string, text: string): Request => {
    const request: Request = JSON.parse(text)
    fake.onRequest?.(name, request)
    return request
  }
  return {
    catalog: async () => JSON.stringify(CATALOG),
    header: async (head, fileBytes) => JSON.stringify(headerOf(head, fileBytes)),
    index: async (text) => JSON.stringify(indexOf(text)),
    async describe(request) {
      const weights = ({ shape }: Tensor) => shape.reduce((n, dim) => n * dim, 1)
      const plain = (t: Tensor) => ({ scheme: null, weights: weights(t), codes: false })
      const tensors = heard('describe', request).tensors.map(plain)
      return JSON.stringify({ format: null, problem: null, tensors })
    },
    async plan(request) {
      return JSON.stringify(planOf(heard('plan', request)))
    },
    async jobOpen(request, tokens) {
      jobs.set(next, new FakeJob(heard('job', request), tokens))
      return next++
    },
    async jobPoll(job, answer) {
      if (fake.stepMs) await pause(fake.stepMs)
      return jobs.get(job)?.poll(answer) ?? fail('internal', `unknown job ${job}`)
    },
    async modelOpen(request) {
      const names = heard('model', request).tensors.map((tensor) => tensor.name)
      models.set(next, names)
      return next++
    },
    async modelPoll(model, answer) {
      const names = models.get(model) ?? []
      if (answer.length === 0 && names.length > 0)
        return ask({ kind: 'read', tensors: names, done: 0, total: 1 })
      return ask({
        kind: 'done',
        info: { ...INFO, vocabulary: fake.vocabulary ?? 4096, context: fake.context ?? 64 },
      })
    },
    async sessionOpen(_model, request) {
      sessions.set(next, { request: heard('session', request), tokens: [], step: 0 })
      return next++
    },
    async sessionPush(session, tokens) {
      sessions.get(session)?.tokens.push(...tokens)
    },
    async sessionNext(handle) {
      const session = sessions.get(handle) ?? fail('internal', 'the session is closed')
      if (session.step++ === 0) return JSON.stringify({ prefill: { done: 1, total: 1 } })
      const script = fake.script ?? [300]
      const token = script[(session.step - 2) % script.length] ?? 0
      session.tokens.push(token)
      return JSON.stringify({ token })
    },
    logits: async (_model, tokens) => new Float32Array(tokens.length * (fake.vocabulary ?? 4096)),
    score: async (_model, reference, tokens): Promise<Scored> => {
      const positions = tokens.length - 1
      const other = reference === 0 ? {} : { referenceNll: positions, sameTop: positions / 2 }
      const kl = Float32Array.from({ length: reference === 0 ? 0 : positions }, (_, i) => i)
      return { sums: JSON.stringify({ positions, nll: 2 * positions, ...other }), kl }
    },
    async close(handle) {
      for (const shelf of [jobs, sessions, models]) shelf.delete(handle)
    },
  }
}

const INFO = {
  architecture: 'qwen3',
  layers: 4,
  hidden: 256,
  device: 'cpu',
  compute: 'f32',
  gpuLayers: 0,
  isa: 'scalar',
  threads: 1,
  weightBytes: 1,
  bitsPerWeight: 16,
  scheme: null,
}

const CATALOG = {
  version: '0.1.0',
  host: { arch: 'x86_64', isa: 'scalar', isas: ['scalar'] },
  methods: [
    { name: 'rtn', about: 'nearest', needsCalibration: false },
    { name: 'gptq', about: 'second order', needsCalibration: true },
  ],
  formats: [],
  architectures: [],
}

/** Flips every tensor, one at a time, through a scratch file, with a line of journal after each. */
class FakeJob {
  readonly #plan: ReturnType<typeof planOf>
  readonly #steps: (() => Polled)[]
  #answer: Uint8Array[] = []

  constructor(request: Request, tokens: Uint32Array) {
    this.#plan = planOf(request)
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

function planOf(request: Request): {
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
  return {
    layers,
    ignored: [],
    outputs: [{ file: 'model.safetensors', bytes: at }],
    bitsPerWeight: 4.125,
    memoryPeakBytes: 1000,
    scratchBytes: 1000,
    outputBytes: at,
    warnings: [],
    options: { ignore: ['lm_head'], damp: 0.01, ...options },
    fingerprint: 'f',
    config: JSON.stringify({ ...request.config, quantization_config: { fake: true } }),
    tensors,
    head: whole.slice(0, start),
    offsets,
    total: at,
  }
}

function size({ dtype, shape }: Pick<Tensor, 'dtype' | 'shape'>): number {
  return shape.reduce((product, dim) => product * dim, BYTES[dtype])
}

function headerOf(head: Uint8Array, fileBytes: number): Json {
  if (head.length < 8) fail('truncated', 'fewer than 8 bytes')
  const length = Number(new DataView(head.buffer, head.byteOffset).getBigUint64(0, true))
  if (length + 8 > fileBytes) fail('truncated', `the header has ${length} bytes`)
  const json = JSON.parse(new TextDecoder().decode(head.subarray(8, 8 + length)))
  const { __metadata__: metadata = {}, ...entries } = json
  const tensors = Object.entries<{
    dtype: string
    shape: number[]
    data_offsets: [number, number]
  }>(entries)
  return {
    metadata,
    dataStart: 8 + length,
    tensors: tensors.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => ({ name, dtype, shape, begin, end }),
    ),
  }
}

function indexOf(text: Uint8Array): Json {
  const json = JSON.parse(new TextDecoder().decode(text))
  const weightMap: Record<string, string> = json.weight_map
  const files = [...new Set(Object.values(weightMap))].toSorted()
  return { files, weightMap, totalSize: json.metadata?.total_size ?? null }
}

function ask(what: Json, ...data: Uint8Array[]): Polled {
  return { ask: JSON.stringify(what), data }
}

function fail(code: string, message: string): never {
  throw Object.assign(new Error(message), { code })
}
