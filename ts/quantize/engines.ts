/** Which engines load a model, by the facts in `engine-rows.ts`; the first row that fits counts. */
import { isObject, type Json } from '../bytes.ts'
import { CONVERTED, KNOWN, ROWS } from './engine-rows.ts'
import { schemeParts } from './scheme.ts'

/** Whether an engine loads a model. */
export interface Loads {
  readonly engine: Engine
  /** `partly`: with a caveat that the reader must know; `unknown`: nothing is known here. */
  readonly loads: 'yes' | 'partly' | 'unknown' | 'no'
  /** The caveat or the reason. */
  readonly note?: string
}

/** Engines, in the order of reports. */
export const ENGINES = [
  'transformers',
  'vLLM',
  'SGLang',
  'llama.cpp',
  'lowbit CPU',
  'lowbit GPU',
  'lowbit browser',
] as const

/** An engine by name. */
export type Engine = (typeof ENGINES)[number]

/** What a model, planned or there, is to a loader. */
export interface Output {
  /** Name of the layout, `gguf`, or `safetensors` for an original. */
  readonly format: string
  readonly layers: readonly { readonly name: string; readonly scheme: string }[]
  /** Two linears that servers join into one matrix and that differ, as the core names them. */
  readonly torn?: string | null | undefined
  /** Its config.json, or the text of that. */
  readonly config?: Json | string | null | undefined
  /** Scheme of the KV cache that it has scales for. */
  readonly kvCache?: string | null | undefined
}

/** From good to bad. */
const VERDICTS = ['yes', 'partly', 'unknown', 'no'] as const

/** Engines that read one scheme for all layers of some formats. */
const ONE_SCHEME: readonly {
  readonly engine: Engine
  readonly reads: (format: string) => boolean
  readonly note: string
}[] = [
  {
    engine: 'llama.cpp',
    reads: (format) => CONVERTED.includes(format),
    note: 'its converter reads one scheme',
  },
  {
    engine: 'transformers',
    reads: (format) => format.startsWith('gptq'),
    note: 'it gives every layer the same bits; GPTQModel itself reads the exceptions',
  },
]

/** What each engine does with a model: the worst of its layers counts. */
export function enginesFor(output: Output): readonly Loads[] {
  const schemes = [...new Set(output.layers.map(({ scheme }) => scheme))]
  const { torn } = output
  const ordered = isOrdered(output.config) ? ORDERED : []
  return ENGINES.map((engine) => {
    const found = schemes.map((scheme) => loadsScheme(engine, output.format, scheme))
    if (found.length === 0) found.push(loadsScheme(engine, output.format, ''))
    if (typeof torn === 'string' && SERVERS.some((name) => name === engine)) {
      found.push({ engine, loads: 'no', note: `it joins linears that differ here: ${torn}` })
    }
    found.push(...ordered.filter((loads) => loads.engine === engine))
    found.push(...cacheLoads(engine, output.kvCache))
    const alone = ONE_SCHEME.find((row) => row.engine === engine && row.reads(output.format))
    if (alone && schemes.length > 1) found.push({ engine, loads: 'no', note: alone.note })
    const [worst] = found.toSorted((a, b) => VERDICTS.indexOf(b.loads) - VERDICTS.indexOf(a.loads))
    return worst ?? { engine, loads: 'unknown' }
  })
}

/** What an engine does with one scheme of a format; an empty scheme is that of an original. */
export function loadsScheme(engine: Engine, named: string, scheme: string): Loads {
  const parts = schemeParts(scheme)
  // Behind an at sign stands a version.
  const [format = named] = named.split('@')
  const row = ROWS.find(
    ({ engines, formats, when }) =>
      engines.includes(engine) &&
      (formats === 'any' || formats.includes(format)) &&
      (when?.(parts) ?? true),
  )
  if (row) {
    const { loads, note } = row
    return note === undefined ? { engine, loads } : { engine, loads, note }
  }
  if (KNOWN.has(format)) return { engine, loads: 'no', note: 'it does not read the format' }
  return { engine, loads: 'unknown', note: `nothing is known here of the format ${format}` }
}

/** What an engine does with scales of the KV cache, where it is more than to use them. */
function cacheLoads(engine: Engine, cache: string | null | undefined): readonly Loads[] {
  if (engine !== 'vLLM' || (cache ?? undefined) === undefined) return []
  if (cache?.startsWith('int8'))
    return [
      { engine, loads: 'no', note: 'its KV cache is FP8 where a checkpoint has scales for it' },
    ]
  const note = 'a KV cache with scales per head needs its FlashAttention backend'
  return cache?.endsWith('-head') ? [{ engine, loads: 'partly', note }] : []
}

const SERVERS: readonly Engine[] = ['vLLM', 'SGLang']

/** Those that take no columns with groups in an order of their own from compressed-tensors. */
const ORDERED: readonly Loads[] = [
  {
    engine: 'transformers',
    loads: 'no',
    note: 'compressed-tensors 0.19 refuses act-order group; gar and static need no order',
  },
  ...SERVERS.map((engine) => ({
    engine,
    loads: 'partly' as const,
    note: 'only with compressed-tensors before 0.19, which refuses act-order group',
  })),
]

/** Whether a config of compressed-tensors says that columns have groups in an order of their own. */
function isOrdered(config: Output['config']): boolean {
  const json: unknown = typeof config === 'string' ? JSON.parse(config) : config
  const found = isObject(json) ? json['quantization_config'] : undefined
  const groups = isObject(found) ? found['config_groups'] : undefined
  return Object.values(isObject(groups) ? groups : {}).some((group) => {
    const weights = isObject(group) ? group['weights'] : undefined
    const order = isObject(weights) ? weights['actorder'] : undefined
    return order === 'group' || order === 'dynamic' || order === true
  })
}
