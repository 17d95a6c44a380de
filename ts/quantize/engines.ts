/** Which engines load a format and a scheme: a table of rows, the first that fits counts. */
import { type SchemeParts, schemeParts } from './scheme.ts'

/** Whether an engine loads a model. */
export interface Loads {
  readonly engine: Engine
  /** `partly`: with a caveat that the reader must know. */
  readonly loads: 'yes' | 'partly' | 'no'
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

/** What a planned model is to a loader. */
export interface Output {
  readonly format: string
  readonly layers: readonly { readonly name: string; readonly scheme: string }[]
  /** Linears that servers join into one matrix and that differ here. */
  readonly torn?: string | null | undefined
}

interface Row {
  readonly engines: readonly Engine[]
  readonly formats: readonly string[] | 'any'
  readonly when?: (scheme: SchemeParts) => boolean
  readonly loads: Loads['loads']
  readonly note?: string
}

const SERVERS = ['vLLM', 'SGLang'] as const
const isInt = ({ element }: SchemeParts): boolean => element === 'w'
const isPacked = (scheme: SchemeParts): boolean => isInt(scheme) && !scheme.inputs
const isOdd = (scheme: SchemeParts): boolean => isPacked(scheme) && ![4, 8].includes(scheme.bits)
const CT = ['compressed-tensors'] as const

/** Facts about releases of 2026. */
const ROWS: readonly Row[] = [
  {
    engines: ['transformers'],
    formats: CT,
    when: isOdd,
    loads: 'partly',
    note: 'needs compressed-tensors 0.18 or newer',
  },
  {
    engines: ['transformers'],
    formats: CT,
    loads: 'yes',
    note: 'with the compressed-tensors package',
  },
  {
    engines: ['transformers'],
    formats: ['gptq', 'gptq-v2', 'awq'],
    loads: 'yes',
    note: 'with the GPTQModel package',
  },
  {
    engines: ['transformers'],
    formats: ['bitsandbytes'],
    loads: 'yes',
    note: 'with the bitsandbytes package',
  },
  { engines: ['transformers'], formats: ['hqq', 'eetq'], loads: 'partly', note: 'on CUDA only' },
  {
    engines: ['transformers'],
    formats: ['gguf'],
    loads: 'partly',
    note: 'widened to floats on loading',
  },
  { engines: ['transformers'], formats: ['fp8'], loads: 'yes' },
  {
    engines: ['vLLM'],
    formats: CT,
    when: isOdd,
    loads: 'partly',
    note: 'only releases with kernels for 2 to 8 bits',
  },
  {
    engines: ['vLLM'],
    formats: CT,
    when: ({ element }) => element === 'mxfp4',
    loads: 'partly',
    note: 'only new releases',
  },
  {
    engines: ['vLLM'],
    formats: CT,
    when: ({ element, inputs }) => element === 'fp8' && inputs,
    loads: 'yes',
    note: 'FP8 arithmetic from compute capability 8.9 on',
  },
  { engines: ['vLLM'], formats: CT, loads: 'yes' },
  {
    engines: ['SGLang'],
    formats: CT,
    when: isOdd,
    loads: 'no',
    note: 'it has kernels for 4 and 8 bits',
  },
  {
    engines: ['SGLang'],
    formats: CT,
    when: ({ element }) => element === 'mxfp4',
    loads: 'partly',
    note: 'only new releases',
  },
  { engines: ['SGLang'], formats: CT, loads: 'yes' },
  {
    engines: ['vLLM'],
    formats: ['gptq'],
    when: ({ bits, zero }) => ![4, 8].includes(bits) || zero !== 'none',
    loads: 'partly',
    note: 'without its fast kernels',
  },
  {
    engines: ['vLLM'],
    formats: ['bitsandbytes'],
    loads: 'partly',
    note: 'without tensor parallelism',
  },
  { engines: SERVERS, formats: ['gptq', 'awq', 'fp8', 'bitsandbytes'], loads: 'yes' },
  { engines: ['vLLM'], formats: ['gguf'], loads: 'partly', note: 'with its plug-in for GGUF' },
  { engines: ['SGLang'], formats: ['gguf'], loads: 'yes' },
  { engines: SERVERS, formats: ['hqq', 'eetq'], loads: 'no', note: 'it does not read the format' },
  { engines: ['llama.cpp'], formats: ['gguf'], loads: 'yes' },
  {
    engines: ['llama.cpp'],
    formats: CT,
    when: (s) => isPacked(s) && (s.bits === 3 || s.group === undefined),
    loads: 'no',
    note: 'its converter reads groups of 2, 4 or 8 bits',
  },
  {
    engines: ['llama.cpp'],
    formats: CT,
    loads: 'partly',
    note: 'after its converter, which widens it',
  },
  {
    engines: ['llama.cpp'],
    formats: ['gptq'],
    when: ({ bits }) => bits !== 3,
    loads: 'partly',
    note: 'after its converter, which widens it',
  },
  {
    engines: ['llama.cpp'],
    formats: ['fp8'],
    loads: 'partly',
    note: 'after its converter, which widens it',
  },
  { engines: ['llama.cpp'], formats: 'any', loads: 'no', note: 'use GGUF' },
  { engines: ['lowbit CPU', 'lowbit browser'], formats: 'any', loads: 'yes' },
  {
    engines: ['lowbit GPU'],
    formats: 'any',
    when: (s) => isPacked(s) && s.zero !== 'float',
    loads: 'yes',
  },
  {
    engines: ['lowbit GPU'],
    formats: 'any',
    loads: 'no',
    note: 'its shaders are for integer weights; device auto takes the CPU',
  },
]

const VERDICTS = ['yes', 'partly', 'no'] as const

/** What each engine does with a planned model: the worst of its layers counts. */
export function enginesFor(output: Output): readonly Loads[] {
  const schemes = [...new Set(output.layers.map(({ scheme }) => scheme))]
  const { torn } = output
  return ENGINES.map((engine) => {
    const found = schemes.map((scheme) => loadsScheme(engine, output.format, scheme))
    if (torn && SERVERS.some((name) => name === engine)) {
      found.push({ engine, loads: 'no', note: `it joins linears that differ here: ${torn}` })
    }
    if (schemes.length > 1 && engine === 'llama.cpp' && output.format === CT[0]) {
      found.push({ engine, loads: 'no', note: 'its converter reads one scheme' })
    }
    if (schemes.length > 1 && engine === 'transformers' && output.format.startsWith('gptq')) {
      const note = 'it gives every layer the same bits, only GPTQModel itself reads the exceptions'
      found.push({ engine, loads: 'no', note })
    }
    const [worst] = found.toSorted((a, b) => VERDICTS.indexOf(b.loads) - VERDICTS.indexOf(a.loads))
    return worst ?? { engine, loads: 'yes' }
  })
}

function loadsScheme(engine: Engine, format: string, scheme: string): Loads {
  const parts = schemeParts(scheme)
  const row = ROWS.find(
    ({ engines, formats, when }) =>
      engines.includes(engine) &&
      (formats === 'any' || formats.includes(format)) &&
      (when?.(parts) ?? true),
  )
  if (!row) return { engine, loads: 'no', note: 'it does not read the format' }
  const { loads, note } = row
  return note === undefined ? { engine, loads } : { engine, loads, note }
}
