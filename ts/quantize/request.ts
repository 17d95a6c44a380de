/** A quantization as the core is asked for it. */
import type { Binding } from '../binding.ts'
import { type Checkpoint, requestText } from '../checkpoint.ts'
import { errorFrom, LowbitError } from '../error.ts'
import { textList } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import type { CalibrationSize } from './calibration.ts'
import type { CorePlan } from './report.ts'

/** What `quantize` does when nothing is said. */
export const DEFAULTS = {
  method: 'gptq',
  scheme: 'w4g128',
  format: 'compressed-tensors',
} as const

/** Module that stays as it is: quantizing the head costs quality and saves little. */
const IGNORED = 'lm_head'

/** Options as the core takes them. */
export interface Settings extends Readonly<Record<string, unknown>> {
  readonly method: string
  readonly scheme: string
  readonly format: string
}

/** The options that decide the bytes; what nobody said is left to the core. */
export function settingsOf(options: QuantizeOptions): Settings {
  const { method = DEFAULTS.method, scheme = DEFAULTS.scheme, format = DEFAULTS.format } = options
  const { observer, actOrder, damp, block, scaleDtype, seed, layers, ignore } = options
  checkLayers(layers)
  const ignored = ignore && [...new Set([IGNORED, ...textList('ignore', ignore)])]
  const rules = layers?.map(([pattern, scheme]) => ({ pattern, scheme }))
  const rest = { ignore: ignored, layers: rules, observer, actOrder, damp, block, scaleDtype, seed }
  return { method, scheme, format, ...defined(rest) }
}

/** What a request is made from, beside the checkpoint. */
export interface RequestParts {
  readonly options: QuantizeOptions
  readonly settings: Settings
  readonly threads: number
  readonly size: CalibrationSize | null
  readonly journal: readonly string[]
}

/** JSON for `Binding.plan` and `Binding.jobOpen`. */
export function jobText(checkpoint: Checkpoint, parts: RequestParts): string {
  const { options, settings, size, journal } = parts
  const { isa, maxShardBytes, threads = parts.threads } = options
  const identities = Object.fromEntries(checkpoint.files.map((file) => [file.name, file.identity]))
  const rest = {
    options: settings,
    calibration: size,
    journal,
    threads,
    isa,
    maxShardBytes,
    identities,
  }
  return requestText(checkpoint, rest)
}

/** Asks for the plan. */
export async function planFrom(binding: Binding, text: string, place: string): Promise<CorePlan> {
  try {
    const plan: CorePlan = JSON.parse(await binding.plan(text))
    return plan
  } catch (error) {
    throw errorFrom(error, 'internal', place)
  }
}

/** Whether a method looks at activations; an unknown one is the plan's to refuse. */
export async function needsCalibration(binding: Binding, method: string): Promise<boolean> {
  const catalog: { methods?: readonly { name: string; needsCalibration?: boolean }[] } = JSON.parse(
    await binding.catalog(),
  )
  return catalog.methods?.find(({ name }) => name === method)?.needsCalibration ?? false
}

/** What was assumed for the caller. */
export function defaultNotes(options: QuantizeOptions, size: CalibrationSize | null): string[] {
  const assumed = (['method', 'scheme', 'format'] as const).filter(
    (key) => options[key] === undefined,
  )
  const notes =
    assumed.length > 0
      ? [`Assumed ${assumed.map((key) => `${key} ${DEFAULTS[key]}`).join(', ')}`]
      : []
  if (size && options.calibration === undefined) {
    const { samples, length } = size
    notes.push(
      `Calibrating on ${samples} × ${length} tokens of the public-domain text that ships here`,
    )
  }
  return notes
}

/** Calibration runs where its sums are repeatable. */
export function refuseDevice({ device, compute }: QuantizeOptions): void {
  if (device === 'gpu') {
    throw new LowbitError('unsupported', 'Quantization runs on the CPU', {
      remedy: 'use device auto',
    })
  }
  if (compute === 'int8') {
    throw new LowbitError('unsupported', 'Calibration computes in f32', {
      remedy: 'use compute f32',
    })
  }
}

function checkLayers(layers: unknown): void {
  if (layers === undefined) return
  const right =
    Array.isArray(layers) &&
    layers.every(
      (pair: unknown) =>
        Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === 'string'),
    )
  if (right) return
  throw new LowbitError('option', 'layers must be a list of pairs of pattern and scheme', {
    remedy: "as in [['re:.*down_proj', 'w8g128']]",
  })
}

function defined<T extends object>(options: T): Partial<T> {
  const result: Partial<T> = { ...options }
  for (const key of Object.keys(result)) {
    if (Reflect.get(result, key) === undefined) Reflect.deleteProperty(result, key)
  }
  return result
}
