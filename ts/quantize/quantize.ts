/** One quantization from a source to a finished folder. */
import type { Binding } from '../binding.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint.ts'
import { errorFrom, throwIfAborted } from '../error.ts'
import { type Host, type Output, type Source, storeOutput } from '../host.ts'
import { checkOptions } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import { type Meter, meter } from '../progress.ts'
import { memoryStore } from '../store/memory.ts'
import { readOptional } from '../store/store.ts'
import {
  type CalibrationSet,
  type CalibrationSize,
  calibrationSize,
  readCalibration,
} from './calibration.ts'
import { type CardFacts, cardText, recipeText } from './card.ts'
import { checkOutput } from './check.ts'
import { drive } from './drive.ts'
import { checkSpace, type Copy, copyFiles, filesToCopy, writeText } from './files.ts'
import {
  defaultNotes,
  jobText,
  needsCalibration,
  planFrom,
  refuseDevice,
  type Settings,
  settingsOf,
} from './request.ts'
import type {
  CorePlan,
  CoreReport,
  LayerReport,
  Plan,
  QuantizeReport,
  WrittenFile,
} from './report.ts'

/** One call, with everything that does not change during it. */
interface Run {
  readonly binding: Binding
  readonly host: Host
  readonly options: QuantizeOptions
  readonly settings: Settings
  readonly checkpoint: Checkpoint
  readonly size: CalibrationSize | null
  readonly plan: CorePlan
  readonly report: Meter
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
  const begun = performance.now()
  const run = await prepare(binding, host, source, options)
  const done = options.dryRun ? NOTHING : await write(run)
  const { checkpoint, settings, plan } = run
  return {
    model: checkpoint.place,
    out: typeof options.out === 'string' ? options.out : options.out.place,
    dryRun: done === NOTHING,
    method: settings.method,
    scheme: settings.scheme,
    format: settings.format,
    calibration: done.calibration,
    plan: planOf(plan),
    layers: done.layers,
    bitsPerWeight: plan.bitsPerWeight,
    sourceBytes: sourceBytes(checkpoint),
    bytes: plan.outputBytes,
    files: done.files,
    resumed: done.resumed,
    seconds: (performance.now() - begun) / 1000,
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
  refuseDevice(options)
  const settings = settingsOf(options)
  const checkpoint = await openCheckpoint(binding, source)
  const size = (await needsCalibration(binding, settings.method))
    ? await calibrationSize(host, options)
    : null
  const text = jobText(checkpoint, { options, settings, threads: host.threads, size, journal: [] })
  const plan = await planFrom(binding, text, checkpoint.place)
  const notes = [...defaultNotes(options, size), ...plan.warnings]
  const report = meter(options)
  return { binding, host, options, settings, checkpoint, size, plan, report, notes }
}

interface Done {
  readonly calibration: QuantizeReport['calibration']
  readonly layers: readonly LayerReport[]
  readonly files: readonly WrittenFile[]
  readonly resumed: boolean
}

/** What a dry run writes. */
const NOTHING: Done = { calibration: null, layers: [], files: [], resumed: false }

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
  const { checkpoint, options, report } = run
  const calibration = await calibrate(run)
  const journal = await output.journal.lines()
  const copies = await filesToCopy(checkpoint.store)
  // A resumed run has taken most of its space already.
  if (journal.length === 0) await startAfresh(run, output, copies)
  const { core, seconds } = await runJob(run, output, calibration, journal)
  const layers = withSeconds(core.layers ?? [], run.plan, seconds)
  const watch = { report, signal: options.signal }
  await copyFiles(checkpoint.store, output.store, copies, watch)
  await writeTexts(run, output, { calibration, layers })
  const files = await checkOutput({ ...run, ...watch, store: output.store, core })
  return { calibration: setOf(calibration), layers, files, resumed: journal.length > 0 }
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
  const { binding, checkpoint, plan, report } = run
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
  const { size, checkpoint, host, options } = run
  if (!size) return undefined
  throwIfAborted(options.signal)
  run.report({ stage: 'tokenize', done: 0, total: 1 })
  const set = await readCalibration(host, checkpoint, options.calibration, size)
  run.report({ stage: 'tokenize', done: 1, total: 1 })
  if (set.samples < size.samples) {
    run.notes.push(`The calibration text gives ${set.samples} of ${size.samples} samples`)
  }
  return set
}

/** Config last: a folder without it is not a model. */
async function writeTexts(
  run: Run,
  output: Output,
  made: Pick<CardFacts, 'calibration' | 'layers'>,
): Promise<void> {
  const { checkpoint, plan, settings, binding } = run
  const catalog: { version: string } = JSON.parse(await binding.catalog())
  const card = await readOptional(checkpoint.store, 'README.md', 1 << 20).catch(() => undefined)
  const facts: CardFacts = {
    ...made,
    name: checkpoint.place.split(/[/\\]/).findLast((part) => part !== '') ?? 'model',
    version: catalog.version,
    settings,
    plan,
    sourceBytes: sourceBytes(checkpoint),
    bytes: plan.outputBytes,
    sourceCard: card && new TextDecoder().decode(card),
  }
  const { store } = output
  await writeText(store, 'README.md', cardText(facts))
  // It says who made the original and under what licence.
  if (facts.sourceCard !== undefined) await writeText(store, 'README.original.md', facts.sourceCard)
  await writeText(store, 'recipe.yaml', recipeText(facts))
  if (plan.index) await writeText(store, 'model.safetensors.index.json', plan.index)
  await writeText(store, 'config.json', plan.config)
}

function setOf(calibration: CalibrationSet | undefined): QuantizeReport['calibration'] {
  if (!calibration) return null
  const { samples, length, text } = calibration
  return { samples, length, text }
}

/** A layer's seconds are its block's, shared out by weights: the core has no clock. */
function withSeconds(
  layers: readonly LayerReport[],
  plan: CorePlan,
  seconds: ReadonlyMap<number, number>,
): readonly LayerReport[] {
  const weights = new Map(plan.layers.map(({ name, rows, cols }) => [name, rows * cols]))
  const inBlock = new Map<number, number>()
  for (const { name } of layers) {
    const block = blockOf(name)
    inBlock.set(block, (inBlock.get(block) ?? 0) + (weights.get(name) ?? 0))
  }
  return layers.map((layer) => {
    const block = blockOf(layer.name)
    const share = (weights.get(layer.name) ?? 0) / (inBlock.get(block) ?? 1)
    return { ...layer, seconds: (seconds.get(block) ?? 0) * share }
  })
}

function blockOf(name: string): number {
  return Number(/\.(\d+)\./.exec(name)?.[1] ?? -1)
}

function planOf(plan: CorePlan): Plan {
  const { layers, ignored, outputs, warnings, bitsPerWeight } = plan
  const { memoryPeakBytes, scratchBytes, outputBytes } = plan
  const sizes = { bitsPerWeight, memoryPeakBytes, scratchBytes, outputBytes }
  return { layers, ignored, outputs, ...sizes, warnings }
}

function sourceBytes(checkpoint: Checkpoint): number {
  return checkpoint.files.reduce((bytes, file) => bytes + file.bytes, 0)
}
