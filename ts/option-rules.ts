/** Checks of options: unknown keys are refused by name, values by kind and range. */
import { STRATEGIES } from './calibration/names.ts'
import { type ErrorCode, LowbitError, nearest, quote } from './error.ts'
import type {
  CalibrateOptions,
  ClassifyOptions,
  ConvertOptions,
  EmbedOptions,
  EvaluateOptions,
  GenerateOptions,
  ImatrixOptions,
  LoadOptions,
  QuantizeOptions,
  RunOptions,
} from './options.ts'
import type { Watching } from './watching.ts'

/** What a value must be. */
type Rule =
  | { readonly kind: 'number' | 'integer'; readonly min: number; readonly max: number }
  | { readonly kind: 'text' | 'flag' | 'any' }
  | { readonly kind: 'choice'; readonly of: readonly string[] }

/** One rule for each key of an options type. */
type Rules<T> = { readonly [K in keyof Required<T>]: Rule }

const any = { kind: 'any' } as const
const text = { kind: 'text' } as const
const flag = { kind: 'flag' } as const

function integer(min: number, max: number): Rule {
  return { kind: 'integer', min, max }
}

function number(min: number, max: number): Rule {
  return { kind: 'number', min, max }
}

function choice(...of: readonly string[]): Rule {
  return { kind: 'choice', of }
}

const watching = { signal: any, onProgress: any } satisfies Rules<Watching>
const run = {
  device: choice('auto', 'cpu', 'gpu'),
  compute: choice('auto', 'f32', 'int8'),
  gpuLayers: integer(0, 100_000),
  threads: integer(1, 1024),
  isa: text,
} satisfies Rules<RunOptions>

/** Rules of every function's options; methods, schemes and formats are the core's to judge. */
const RULES = {
  load: {
    ...run,
    ...watching,
    context: integer(1, 1 << 30),
    kvCache: choice('fp8', 'int8'),
  } satisfies Rules<LoadOptions>,
  quantize: {
    ...watching,
    out: any,
    recipe: any,
    method: text,
    scheme: text,
    format: text,
    calibration: any,
    samples: integer(1, 1 << 20),
    length: integer(2, 1 << 20),
    ignore: any,
    layers: any,
    targetBpw: number(1, 16),
    candidates: any,
    prune: choice('magnitude', 'wanda', 'sparsegpt'),
    sparsity: any,
    observer: choice('minmax', 'mse', 'imatrix-mse'),
    imatrix: text,
    actOrder: choice('static', 'gar', 'group', 'off'),
    trueSequential: flag,
    strict: flag,
    allowNonfinite: choice('zero', 'keep'),
    allExperts: flag,
    damp: number(0, 1),
    block: integer(1, 1 << 16),
    refine: integer(0, 100),
    scaleDtype: text,
    kvCache: choice('fp8', 'int8', 'fp8-head', 'int8-head'),
    seed: integer(0, Number.MAX_SAFE_INTEGER),
    device: run.device,
    compute: run.compute,
    threads: run.threads,
    isa: text,
    maxShardBytes: integer(1 << 16, Number.MAX_SAFE_INTEGER),
    fresh: flag,
    force: flag,
    dryRun: flag,
    compareText: any,
  } satisfies Rules<QuantizeOptions>,
  convert: {
    ...watching,
    out: any,
    format: text,
    scheme: text,
    dtype: text,
    scaleDtype: text,
    observer: choice('minmax', 'mse'),
    lora: any,
    imatrix: text,
    tensorTypes: any,
    outputType: text,
    embeddingType: text,
    pure: flag,
    tokenizerPre: text,
    exact: flag,
    threads: run.threads,
    isa: text,
    maxShardBytes: integer(1 << 16, Number.MAX_SAFE_INTEGER),
    fresh: flag,
    force: flag,
    dryRun: flag,
  } satisfies Rules<ConvertOptions>,
  imatrix: {
    ...watching,
    out: any,
    calibration: any,
    samples: integer(1, 1 << 20),
    length: integer(2, 1 << 20),
    merge: any,
    format: choice('gguf', 'dat'),
    threads: run.threads,
    isa: text,
    force: flag,
  } satisfies Rules<ImatrixOptions>,
  calibrate: {
    ...watching,
    out: any,
    model: any,
    samples: integer(1, 1 << 20),
    length: integer(2, 1 << 20),
    select: choice(...STRATEGIES),
    mix: any,
    languages: any,
    without: any,
    minLength: integer(0, 1 << 20),
    pack: flag,
    field: text,
    rows: integer(1, Number.MAX_SAFE_INTEGER),
    skipBad: flag,
    seed: integer(0, Number.MAX_SAFE_INTEGER),
    force: flag,
  } satisfies Rules<CalibrateOptions>,
  generate: {
    maxTokens: integer(1, 1 << 30),
    temperature: number(0, 100),
    topK: integer(0, 1 << 30),
    topP: number(0, 1),
    minP: number(0, 1),
    repetitionPenalty: number(0.01, 100),
    seed: integer(0, Number.MAX_SAFE_INTEGER),
    stop: any,
    signal: any,
    onUsage: any,
  } satisfies Rules<GenerateOptions>,
  embed: {
    ...watching,
    normalize: flag,
    pooling: choice('cls', 'mean', 'max', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'),
    prompt: text,
    truncate: flag,
  } satisfies Rules<EmbedOptions>,
  classify: {
    ...watching,
    scores: choice('softmax', 'sigmoid', 'none'),
    truncate: flag,
  } satisfies Rules<ClassifyOptions>,
  evaluate: {
    ...run,
    ...watching,
    text,
    window: integer(2, 1 << 30),
    reference: any,
    kvCache: choice('fp8', 'int8'),
  } satisfies Rules<EvaluateOptions>,
}

/** The functions that take options. */
export type OptionsOf =
  | 'load'
  | 'quantize'
  | 'convert'
  | 'calibrate'
  | 'imatrix'
  | 'generate'
  | 'embed'
  | 'classify'
  | 'evaluate'

/** Refuses unknown keys, naming the nearest, and values of the wrong kind or out of range. */
export function checkOptions(name: OptionsOf, given: object): void {
  const rules = new Map<string, Rule>(Object.entries(RULES[name]))
  for (const [key, value] of Object.entries(given)) {
    const rule = rules.get(key)
    if (!rule) {
      const near = nearest(key, rules.keys())
      throw wrong(`${name} has no option ${quote(key)}`, `did you mean ${quote(near ?? '')}?`)
    }
    if (value !== undefined) checkValue(key, value, rule)
  }
}

function checkValue(key: string, value: unknown, rule: Rule): void {
  const found = `${key} is ${quote(String(value))}`
  switch (rule.kind) {
    case 'any':
      return
    case 'text':
      if (typeof value !== 'string') throw wrong(found, 'use a text')
      return
    case 'flag':
      if (typeof value !== 'boolean') throw wrong(found, 'use true or false')
      return
    case 'choice':
      if (!rule.of.includes(String(value))) throw wrong(found, `use ${listText(rule.of)}`)
      return
    case 'integer':
    case 'number':
      checkNumber(found, value, rule)
  }
}

function checkNumber(found: string, value: unknown, rule: Extract<Rule, { min: number }>): void {
  const { kind, min, max } = rule
  const right = kind === 'integer' ? Number.isSafeInteger(value) : Number.isFinite(value)
  if (right && typeof value === 'number' && value >= min && value <= max) return
  throw wrong(
    found,
    `use ${kind === 'integer' ? 'a whole number' : 'a number'} from ${min} to ${max}`,
  )
}

/** `a, b or c`. */
export function listText(names: readonly string[]): string {
  if (names.length < 2) return names.join('')
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`
}

/** A list of texts, given as one or many. */
export function textList(
  key: string,
  value: unknown,
  code: ErrorCode = 'option',
): readonly string[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (list.every((item) => typeof item === 'string')) return list
  throw new LowbitError(code, `${key} must be a text or a list of texts`)
}

function wrong(what: string, remedy: string): LowbitError {
  return new LowbitError('option', what, { remedy })
}
