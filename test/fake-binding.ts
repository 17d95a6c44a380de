/**
 * A binding without Rust: a rounder that flips bits and a model that adds. It asks for what the
 * real one asks for, in the same order, so that everything around it can be tested by itself.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Binding, Scored } from '../ts/binding.ts'
import { ask, fail, FakeJob, type Json, planOf, type Request, type Tensor } from './fake-job.ts'

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
    ggufOpen: async () => fail('unsupported', 'the fake reads no GGUF'),
    ggufRows: async () => fail('unsupported', 'the fake reads no GGUF'),
    imatrix: async () => fail('unsupported', 'the fake collects nothing'),
    async describe(request) {
      const weights = ({ shape }: Tensor) => shape.reduce((n, dim) => n * dim, 1)
      const plain = (t: Tensor) => ({ scheme: null, weights: weights(t), codes: false })
      const tensors = heard('describe', request).tensors.map(plain)
      const runs = { cpu: null, gpu: null }
      return JSON.stringify({ format: null, problem: null, runs, torn: null, tensors })
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
    async encode(_model, request) {
      const { lengths } = JSON.parse(request)
      return Float32Array.from({ length: 2 * lengths.length }, (_, i) => lengths[i >> 1])
    },
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
  causal: true,
  tasks: ['generate', 'embed', 'classify'],
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
