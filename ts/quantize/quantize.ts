/** One quantization from a source to a finished folder. */
import type { Binding } from '../binding.ts'
import { type Checkpoint, configOf, openCheckpoint } from '../checkpoint.ts'
import { errorFrom, throwIfAborted } from '../error.ts'
import { type Host, type Output, type Source, storeOutput } from '../host.ts'
import { checkOptions } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import { meter } from '../progress.ts'
import type { Compiled } from '../recipe/compile.ts'
import type { CoreOptions } from '../recipe/core.ts'
import { memoryStore } from '../store/memory.ts'
import { readOptional } from '../store/store.ts'
import {
  type CalibrationSet,
  type CalibrationSize,
  calibrationSize,
  readCalibration,
} from './calibration.ts'
import type { CalibrationInput } from './calibration-files.ts'
import { checkOutput } from './check.ts'
import { compareTexts, promptsOf } from './compare.ts'
import { drive } from './drive.ts'
import { enginesFor } from './engines.ts'
import { checkSpace, type Copy, copyFiles, filesToCopy } from './files.ts'
import { type Gauge, gauge, withSeconds } from './gauge.ts'
import { parallelOf } from './parallel.ts'
import type { CorePlan, CoreReport, Plan, QuantizeReport } from './report.ts'
import {
  checkQuantize,
  defaultNotes,
  jobText,
  needsCalibration,
  planFrom,
  recipeOf,
  settingsOf,
} from './request.ts'
import { type Facts, writeCard, writeConfig } from './texts.ts'

/** One call, with everything that does not change during it. */
interface Run {
  readonly binding: Binding
  readonly host: Host
  readonly options: QuantizeOptions
  readonly recipe: Compiled | undefined
  readonly settings: CoreOptions
  readonly maxShardBytes: number | undefined
  readonly checkpoint: Checkpoint
  readonly source: Source
  readonly size: CalibrationSize | null
  readonly plan: CorePlan
  readonly loading: Pick<QuantizeReport, 'engines' | 'tensorParallel'>
  readonly gauge: Gauge
  readonly notes: string[]
}

/** Plans, quantizes, writes, checks and publishes. */
export async function quantizeModel(
  binding: Binding,
  host: Host,
  source: Source,
  options: QuantizeOptions,
): Promise<QuantizeReport> {
  checkOptions('quantize', options)
  checkQuantize(options)
  const begun = performance.now()
  const run = await prepare(binding, host, source, options)
  const done = options.dryRun ? NOTHING : await write(run)
  const { checkpoint, settings, plan, recipe } = run
  return {
    model: checkpoint.place,
    out: typeof options.out === 'string' ? options.out : options.out.place,
    dryRun: done === NOTHING,
    ...(recipe ? { recipe: recipe.name } : {}),
    method: settings.method,
    scheme: settings.scheme,
    format: settings.format,
    ...done,
    ...run.loading,
    plan: planOf(plan, settings),
    bitsPerWeight: plan.bitsPerWeight,
    sourceBytes: sourceBytes(checkpoint),
    bytes: plan.outputBytes,
    seconds: (performance.now() - begun) / 1000,
    memory: run.gauge.memory(),
    notes: run.notes,
  }
}

/** Everything that a user can get wrong surfaces here, before a tensor is read. */
async function prepare(
  binding: Binding,
  host: Host,
  source: Source,
  options: QuantizeOptions,
): Promise<Run> {
  promptsOf(options)
  const recipe = await recipeOf(host, options)
  const checkpoint = await openCheckpoint(binding, source)
  const settings = await settingsOf(binding, checkpoint, options, recipe)
  const size = (await needsCalibration(binding, settings))
    ? await calibrationSize(host, inputOf(options, recipe), options)
    : null
  const maxShardBytes = options.maxShardBytes ?? recipe?.maxShardBytes
  const { threads } = host
  const request = { options, settings, maxShardBytes, threads, size, journal: [] }
  const plan = await planFrom(binding, jobText(checkpoint, request), checkpoint.place)
  const { layers, ignored } = plan
  const loading = {
    engines: enginesFor({ format: settings.format, layers, ignored }),
    tensorParallel: parallelOf(plan, configOf(checkpoint).json),
  }
  const notes = [...defaultNotes(options, recipe, size), ...plan.warnings]
  const measured = gauge(meter(options), host.memory)
  const decided = { binding, host, options, recipe, settings, maxShardBytes, checkpoint, source }
  return { ...decided, size, plan, loading, gauge: measured, notes }
}

/** What to calibrate on: what the call says, then the recipe. */
function inputOf(options: QuantizeOptions, recipe: Compiled | undefined): CalibrationInput {
  const { calibration = {}, folder } = recipe ?? {}
  return { given: options.calibration, recipe: calibration, folder }
}

type Done = Pick<
  QuantizeReport,
  'calibration' | 'layers' | 'transforms' | 'texts' | 'files' | 'resumed'
>

/** What a dry run writes. */
const NOTHING: Done = {
  calibration: null,
  layers: [],
  transforms: [],
  texts: [],
  files: [],
  resumed: false,
}

async function write(run: Run): Promise<Done> {
  const { options, checkpoint, host } = run
  const { out, force = false } = options
  const output =
    typeof out === 'string'
      ? await host.output(out, { force, inputs: [checkpoint.place] })
      : await storeOutput(out, memoryStore([], 'scratch'))
  try {
    if (options.fresh) await output.clear()
    const done = await fill(run, output)
    await output.publish()
    return done
  } finally {
    await output.close()
  }
}

async function fill(run: Run, output: Output): Promise<Done> {
  const { checkpoint, options, binding, host, plan } = run
  const calibration = await calibrate(run)
  const journal = await output.journal.lines()
  const copies = await filesToCopy(checkpoint.store)
  // A resumed run has taken most of its space already.
  if (journal.length === 0) await startAfresh(run, output, copies)
  const { core, seconds } = await runJob(run, output, calibration, journal)
  const { store } = output
  const layers = withSeconds(core.layers ?? [], plan, seconds)
  const watch = { report: run.gauge.report, signal: options.signal }
  await copyFiles(checkpoint.store, store, copies, watch)
  await writeConfig(store, plan, core)
  const both = { binding, host, before: run.source, after: { store } }
  const texts = await compareTexts({ ...both, ...watch }, promptsOf(options))
  await writeCard(store, await factsOf(run, { calibration, layers, texts }))
  const files = await checkOutput({ binding, host, plan, ...watch, store, core })
  for (const note of core.warnings ?? []) if (!run.notes.includes(note)) run.notes.push(note)
  const { transforms = [] } = core
  const resumed = journal.length > 0
  return { calibration: setOf(calibration), layers, transforms, texts, files, resumed }
}

async function startAfresh(run: Run, output: Output, copies: readonly Copy[]): Promise<void> {
  await output.clear()
  const copied = copies.reduce((bytes, file) => bytes + file.bytes, 0)
  const { outputBytes, scratchBytes } = run.plan
  await checkSpace(output.store, outputBytes + scratchBytes + copied)
}

async function runJob(
  run: Run,
  output: Output,
  calibration: CalibrationSet | undefined,
  journal: readonly string[],
): Promise<{ core: CoreReport; seconds: ReadonlyMap<number, number> }> {
  const { binding, checkpoint, plan } = run
  const { report } = run.gauge
  const { signal } = run.options
  const job = await openJob(run, calibration, journal)
  try {
    const driven = await drive({ binding, job, checkpoint, plan, output, signal, report })
    return { core: driven.report, seconds: driven.seconds }
  } finally {
    await binding.close(job)
  }
}

async function openJob(
  run: Run,
  calibration: CalibrationSet | undefined,
  journal: readonly string[],
): Promise<number> {
  const { binding, checkpoint } = run
  const size = calibration ? { samples: calibration.samples, length: calibration.length } : null
  const text = jobText(checkpoint, { ...run, threads: run.host.threads, size, journal })
  try {
    return await binding.jobOpen(text, calibration?.tokens ?? new Uint32Array(0))
  } catch (error) {
    throw errorFrom(error, 'internal')
  }
}

async function calibrate(run: Run): Promise<CalibrationSet | undefined> {
  const { size, checkpoint, host, options, recipe } = run
  if (!size) return undefined
  throwIfAborted(options.signal)
  run.gauge.report({ stage: 'tokenize', done: 0, total: 1 })
  const set = await readCalibration(host, checkpoint, inputOf(options, recipe), size)
  run.gauge.report({ stage: 'tokenize', done: 1, total: 1 })
  run.notes.push(...set.notes)
  return set
}

/** What the texts of the output are made from. */
async function factsOf(
  run: Run,
  made: Pick<Facts, 'calibration' | 'layers' | 'texts'>,
): Promise<Facts> {
  const { checkpoint, plan, settings, binding, maxShardBytes } = run
  const catalog: { version: string } = JSON.parse(await binding.catalog())
  const card = await readOptional(checkpoint.store, 'README.md', 1 << 20).catch(() => undefined)
  return {
    ...made,
    ...run.loading,
    name: checkpoint.place.split(/[/\\]/).findLast((part) => part !== '') ?? 'model',
    version: catalog.version,
    settings: plan.options ?? settings,
    plan,
    maxShardBytes,
    sourceBytes: sourceBytes(checkpoint),
    bytes: plan.outputBytes,
    sourceCard: card && new TextDecoder().decode(card),
  }
}

function setOf(calibration: CalibrationSet | undefined): QuantizeReport['calibration'] {
  if (!calibration) return null
  const { samples, length, text } = calibration
  return { samples, length, text }
}

function planOf(plan: CorePlan, settings: CoreOptions): Plan {
  const { layers, ignored, outputs, warnings, bitsPerWeight, modelBitsPerWeight } = plan
  const { memoryPeakBytes, scratchBytes, outputBytes, options = settings } = plan
  const sizes = { bitsPerWeight, memoryPeakBytes, scratchBytes, outputBytes }
  const model = modelBitsPerWeight === undefined ? {} : { modelBitsPerWeight }
  const transforms = (options.transforms ?? []).map(({ kind }) => kind.toLowerCase())
  return { layers, transforms, ignored, outputs, ...sizes, ...model, warnings, options }
}

function sourceBytes(checkpoint: Checkpoint): number {
  return checkpoint.files.reduce((bytes, file) => bytes + file.bytes, 0)
}
