/** One call of `quantize`: what does not change during it, and how it is decided. */
import type { Binding } from '../binding.ts'
import type { Json } from '../bytes.ts'
import { type Checkpoint, openCheckpoint, readTensor } from '../checkpoint.ts'
import { imatrixOf } from '../convert/gguf.ts'
import { throwIfAborted } from '../error.ts'
import type { Host, Output, Source } from '../host.ts'
import type { QuantizeOptions } from '../options.ts'
import { meter } from '../progress.ts'
import type { Compiled } from '../recipe/compile.ts'
import type { CoreOptions } from '../recipe/core.ts'
import {
  type CalibrationSet,
  type CalibrationSize,
  calibrationSize,
  readCalibration,
} from './calibration.ts'
import type { CalibrationInput } from './calibration-files.ts'
import { promptsOf } from './compare.ts'
import { drive, type Driven, type Driving } from './drive.ts'
import { enginesFor } from './engines.ts'
import { forecastSeconds } from './forecast.ts'
import { type Gauge, gauge } from './gauge.ts'
import { planFrom, withJob } from './job.ts'
import type { CorePlan, QuantizeReport } from './report.ts'
import { defaultNotes, jobText, needsCalibration, recipeOf, settingsOf } from './request.ts'

/** One call, with everything that does not change during it. */
export interface Run {
  readonly binding: Binding
  readonly host: Host
  readonly options: QuantizeOptions
  readonly recipe: Compiled | undefined
  readonly settings: CoreOptions
  readonly maxShardBytes: number | undefined
  readonly checkpoint: Checkpoint
  readonly source: Source
  readonly size: CalibrationSize | null
  readonly imatrix: Json | undefined
  readonly plan: CorePlan
  readonly loading: Pick<QuantizeReport, 'engines' | 'tensorParallel'>
  readonly gauge: Gauge
  readonly notes: string[]
}

/** Everything that a user can get wrong surfaces here, before a tensor is read. */
export async function prepare(
  binding: Binding,
  host: Host,
  source: Source,
  options: QuantizeOptions,
): Promise<Run> {
  promptsOf(options)
  const recipe = await recipeOf(binding, host, options)
  // Blocks are quantized anew from the floats that they stand for.
  const checkpoint = await openCheckpoint(binding, source, { floats: 'F16' })
  const settings = await settingsOf(binding, checkpoint, options, recipe)
  const imatrix = options.imatrix === undefined ? undefined : await imatrixOf(host, options.imatrix)
  const size = (await needsCalibration(binding, settings, imatrix))
    ? await calibrationSize(host, inputOf(options, recipe), options)
    : null
  const maxShardBytes = options.maxShardBytes ?? recipe?.maxShardBytes
  const given = { binding, host, options, recipe, maxShardBytes, checkpoint, source }
  const decided = { ...given, size, imatrix }
  const planned = await planWith(decided, settings)
  const assumed = defaultNotes(options, recipe, size, planned.plan.options ?? settings)
  const notes = [...assumed, ...planned.plan.warnings]
  if (imatrix) notes.push(`Ranges are searched with the importance matrix ${options.imatrix}`)
  return { ...decided, ...planned, gauge: gauge(meter(options), host.memory), notes }
}

/** What a plan is made from. */
type Decided = Pick<
  Run,
  'binding' | 'host' | 'options' | 'maxShardBytes' | 'checkpoint' | 'size' | 'imatrix'
>

/** The plan for some settings, and what it means for those who load the result. */
export async function planWith(
  decided: Decided,
  settings: CoreOptions,
): Promise<Pick<Run, 'settings' | 'plan' | 'loading'>> {
  const { binding, host, options, checkpoint } = decided
  const { threads } = host
  const request = jobText(checkpoint, { ...decided, settings, threads, journal: [] })
  const plan = await planFrom<CorePlan>(binding, request, checkpoint.place)
  const { layers, torn, workUnits, tensorParallel } = plan
  // With every default filled in.
  const all = plan.options ?? settings
  const { format, kvCache } = all
  const engines = enginesFor({ format, layers, torn, config: plan.config, kvCache })
  const loading = { engines, tensorParallel }
  // Nobody has measured other people's GPUs.
  if (workUnits === undefined || plan.device === 'gpu') return { settings, plan, loading }
  const catalog: { host?: { isa?: string } } = JSON.parse(await binding.catalog())
  const isa = options.isa ?? catalog.host?.isa ?? 'scalar'
  const seconds = forecastSeconds(workUnits, isa, options.threads ?? threads)
  return { settings, plan: seconds === undefined ? plan : { ...plan, seconds }, loading }
}

/** What to calibrate on: what the call says, then the recipe. */
function inputOf(options: QuantizeOptions, recipe: Compiled | undefined): CalibrationInput {
  const { calibration = {}, folder } = recipe ?? {}
  return { given: options.calibration, recipe: calibration, folder }
}

/** Reads and tokenizes the calibration text, where something looks at it. */
export async function calibrate(run: Run): Promise<CalibrationSet | undefined> {
  const { size, checkpoint, host, options, recipe } = run
  if (!size) return undefined
  throwIfAborted(options.signal)
  run.gauge.report({ stage: 'tokenize', done: 0, total: 1 })
  const set = await readCalibration(host, checkpoint, inputOf(options, recipe), size)
  run.gauge.report({ stage: 'tokenize', done: 1, total: 1 })
  run.notes.push(...set.notes)
  return set
}

/** Drives the core's job to its end. */
export async function runJob(
  run: Run,
  output: Output,
  calibration: CalibrationSet | undefined,
  journal: readonly string[],
): Promise<Driven> {
  const { binding, checkpoint, plan } = run
  const { report } = run.gauge
  const { signal } = run.options
  const size = calibration ? { samples: calibration.samples, length: calibration.length } : null
  const text = jobText(checkpoint, { ...run, threads: run.host.threads, size, journal })
  // A binding in a worker takes the tokens away, and a survey needs them before the job does.
  const tokens = calibration?.tokens.slice() ?? new Uint32Array(0)
  const read: Driving['read'] = (tensor, part) => readTensor(checkpoint, tensor, part)
  return withJob(binding, text, tokens, (job) =>
    drive({ binding, job, read, plan, output, signal, report }),
  )
}
