/** What is known of engines: a table of rows. */
import type { Engine, Loads } from './engines.ts'
import type { SchemeParts } from './scheme.ts'

/** The releases that the rows are about. */
export const RELEASES: Readonly<Record<string, string>> = {
  transformers: '5.17',
  vLLM: 'of September 2026',
  SGLang: 'of September 2026',
  'llama.cpp': 'of September 2026',
}

/** What some engines do with some formats. */
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

/** Formats that llama.cpp reads by way of its converter, one scheme at a time. */
export const CONVERTED: readonly string[] = CT

/** Facts about the releases above. */
export const ROWS: readonly Row[] = [
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
    engines: ['transformers', 'vLLM', 'SGLang'],
    formats: ['safetensors'],
    loads: 'yes',
    note: 'if it knows the architecture',
  },
  {
    engines: ['llama.cpp'],
    formats: ['safetensors'],
    loads: 'partly',
    note: 'after its converter',
  },
  {
    engines: ['transformers'],
    formats: ['aqlm'],
    loads: 'yes',
    note: 'with the aqlm package',
  },
  {
    engines: ['transformers', 'vLLM', 'SGLang'],
    formats: ['auto-round'],
    loads: 'yes',
  },
  { engines: ['vLLM', 'SGLang'], formats: ['modelopt'], loads: 'yes' },
  {
    engines: ['llama.cpp'],
    formats: ['modelopt'],
    loads: 'partly',
    note: 'after its converter',
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
    engines: SERVERS,
    formats: ['gptq'],
    when: ({ bits, zero }) => ![4, 8].includes(bits) || zero !== 'none',
    loads: 'partly',
    note: 'without its fast kernels',
  },
  { engines: ['vLLM'], formats: ['gptq-v2'], loads: 'partly', note: 'only new releases' },
  {
    engines: ['vLLM'],
    formats: ['bitsandbytes'],
    loads: 'partly',
    note: 'without tensor parallelism',
  },
  { engines: SERVERS, formats: ['gptq', 'awq', 'fp8', 'bitsandbytes'], loads: 'yes' },
  { engines: ['vLLM'], formats: ['gguf'], loads: 'partly', note: 'with its plug-in for GGUF' },
  { engines: ['SGLang'], formats: ['gguf'], loads: 'yes' },
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
    formats: ['gptq', 'gptq-v2'],
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

/** Formats that the rows know, so that an engine without a row does not read them. */
export const KNOWN: ReadonlySet<string> = new Set(
  ROWS.flatMap(({ formats }) => (formats === 'any' ? [] : formats)),
)
