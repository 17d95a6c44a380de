/** A quantization as the core is asked for it. */
import type { Binding } from '../binding.ts'
import type { Json } from '../bytes.ts'
import { type Checkpoint, requestText } from '../checkpoint.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import { textList } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import { type Compiled, pruneShare } from '../recipe/compile.ts'
import type { CoreOptions } from '../recipe/core.ts'
import { presetScheme, presetsOf } from '../recipe/foreign-schemes.ts'
import { methodRecipe, readRecipe } from '../recipe/read.ts'
import { DEFAULTS, resolveOptions } from '../recipe/resolve.ts'
import type { CalibrationSize } from './calibration.ts'
import { identitiesOf, planFrom } from './job.ts'
import type { CorePlan } from './report.ts'

/** Transforms and pruning that work without looking at inputs. */
const DATA_FREE = new Set(['rotate', 'magnitude'])

/** Refuses options that fit their types and mean nothing. */
export function checkQuantize(options: QuantizeOptions): void {
  refuseCompute(options)
  checkLayers(options.layers)
  if (options.ignore !== undefined) textList('ignore', options.ignore)
  if (options.candidates !== undefined) textList('candidates', options.candidates)
  if (options.recipe !== undefined && options.method !== undefined) {
    throw new LowbitError('option', 'A recipe names its method itself', {
      remedy: 'leave out either recipe or method',
    })
  }
  if (options.sparsity !== undefined) checkSparsity(options)
}

/** The recipe of a call: the one it names, or that of a method that is more than a rounder. */
export async function recipeOf(
  binding: Binding,
  host: Host,
  { recipe, method }: QuantizeOptions,
): Promise<Compiled | undefined> {
  if (recipe === undefined) return methodRecipe(method)
  return readRecipe(host, recipe, presetsOf(JSON.parse(await binding.catalog())))
}

/** The options that decide the bytes; what nobody said is left to the core. */
export async function settingsOf(
  binding: Binding,
  checkpoint: Checkpoint,
  options: QuantizeOptions,
  recipe: Compiled | undefined,
): Promise<CoreOptions> {
  return resolveOptions(options, recipe, () => linearNames(binding, checkpoint))
}

/** Names of the linears that could be quantized: those of the simplest plan. */
async function linearNames(binding: Binding, checkpoint: Checkpoint): Promise<readonly string[]> {
  const options = { method: 'rtn', scheme: 'w8', ignore: [] }
  const plan = await planFrom<CorePlan>(
    binding,
    requestText(checkpoint, { options }),
    checkpoint.place,
  )
  return [...plan.layers.map(({ name }) => name), ...plan.ignored]
}

/** What a request is made from, beside the checkpoint. */
export interface RequestParts {
  readonly options: QuantizeOptions
  readonly settings: CoreOptions
  readonly maxShardBytes: number | undefined
  readonly threads: number
  readonly size: CalibrationSize | null
  readonly journal: readonly string[]
  readonly imatrix: Json | undefined
}

/** JSON for `Binding.plan` and `Binding.jobOpen`. */
export function jobText(checkpoint: Checkpoint, parts: RequestParts): string {
  const { options, settings, size, journal, maxShardBytes, imatrix } = parts
  const { isa, device, threads = parts.threads } = options
  const rest = {
    options: settings,
    calibration: size,
    imatrix,
    journal,
    threads,
    isa,
    device,
    maxShardBytes,
    identities: identitiesOf(checkpoint),
  }
  return requestText(checkpoint, rest)
}

/**
 * Whether a step looks at activations; unknown methods are the plan's to refuse. Who brings an
 * importance matrix has looked already.
 */
export async function needsCalibration(
  binding: Binding,
  settings: CoreOptions,
  imatrix: Json | undefined,
): Promise<boolean> {
  const { method, layers = [], transforms = [], prune, observer, targetBpw, kvCache } = settings
  const asked = [targetBpw, kvCache].some((value) => (value ?? undefined) !== undefined)
  const catalog: Parameters<typeof presetsOf>[0] & {
    methods?: readonly { name: string; needsCalibration?: boolean }[]
  } = JSON.parse(await binding.catalog())
  const methods = new Set([method, ...layers.map((rule) => rule.method ?? method)])
  const schemes = [settings.scheme, ...layers.map((rule) => rule.scheme ?? '')]
  const steps = [...transforms.map(({ kind }) => kind), ...(prune ? [prune.method] : [])]
  return (
    (observer === 'imatrix-mse' && !imatrix) ||
    asked ||
    steps.some((step) => !DATA_FREE.has(step)) ||
    // Inputs with one scale for all tokens.
    schemes.some((name) => /a8s|a4$/i.test(presetScheme(presetsOf(catalog), name) ?? name)) ||
    (catalog.methods ?? []).some((row) => methods.has(row.name) && row.needsCalibration === true)
  )
}

/** What was assumed for the caller. */
export function defaultNotes(
  options: QuantizeOptions,
  recipe: Compiled | undefined,
  size: CalibrationSize | null,
  settings: CoreOptions,
): string[] {
  const keys = recipe ? [] : (['method', 'scheme', 'format'] as const)
  const assumed = keys.filter((key) => options[key] === undefined)
  const notes =
    assumed.length > 0
      ? [`Assumed ${assumed.map((key) => assumedText(key, settings)).join(', ')}`]
      : []
  if (size && options.calibration === undefined && recipe?.calibration.files === undefined) {
    const { samples, length } = size
    notes.push(
      `Calibrating on ${samples} × ${length} tokens of the public-domain text that ships here`,
    )
  }
  return [...notes, ...(recipe?.notes ?? [])]
}

/** What was taken, and why where that follows from something else. */
function assumedText(key: 'method' | 'scheme' | 'format', settings: CoreOptions): string {
  const text = `${key} ${settings[key]}`
  return key === 'format' && settings.scheme !== DEFAULTS.scheme
    ? `${text}, the first that holds ${settings.scheme}`
    : text
}

/** Calibration runs in f32, on every device. */
function refuseCompute({ compute }: QuantizeOptions): void {
  if (compute === 'int8') {
    throw new LowbitError('unsupported', 'Calibration computes in f32', {
      remedy: 'use compute f32',
    })
  }
}

function checkSparsity({ sparsity, prune }: QuantizeOptions): void {
  const right =
    typeof sparsity === 'number'
      ? sparsity > 0 && sparsity < 1
      : typeof sparsity === 'string' && pruneShare(sparsity) !== undefined
  if (!right) {
    throw new LowbitError('option', `sparsity is ${JSON.stringify(sparsity)}`, {
      remedy: 'use a share above 0 and below 1, or n:m as in 2:4',
    })
  }
  if (prune === undefined) {
    throw new LowbitError('option', 'sparsity is for pruning', {
      remedy: 'add prune, as sparsegpt',
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
