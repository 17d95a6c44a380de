/** One quantization from a source to a finished folder. */
import type { Binding } from '../binding.ts'
import type { Host, Output, Source } from '../host.ts'
import { modelName } from '../hub/name.ts'
import { checkOptions } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import type { CoreOptions } from '../recipe/core.ts'
import type { CalibrationSet } from './calibration.ts'
import { checkOutput } from './check.ts'
import { compareTexts, promptsOf } from './compare.ts'
import { checkSpace, type Copy, copyFiles, filesToCopy } from './files.ts'
import { withSeconds } from './gauge.ts'
import { bytesOf, cardOf, placeOf, withOutput } from './job.ts'
import type { CorePlan, Plan, QuantizeReport } from './report.ts'
import { checkQuantize } from './request.ts'
import { calibrate, prepare, type Run, runJob } from './run.ts'
import { withSchemes } from './survey.ts'
import { type Facts, writeCard, writeConfig } from './texts.ts'

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
  const prepared = await prepare(binding, host, source, options)
  const { run, done } = options.dryRun ? { run: prepared, done: NOTHING } : await write(prepared)
  const { checkpoint, settings, plan, recipe } = run
  const { method, scheme, format } = plan.options ?? settings
  return {
    model: checkpoint.place,
    out: placeOf(options.out),
    dryRun: done === NOTHING,
    ...(recipe ? { recipe: recipe.name } : {}),
    method,
    scheme,
    format,
    device: plan.device ?? 'cpu',
    ...done,
    ...run.loading,
    plan: planOf(plan, settings),
    bitsPerWeight: plan.bitsPerWeight,
    sourceBytes: bytesOf(checkpoint),
    bytes: plan.outputBytes,
    seconds: (performance.now() - begun) / 1000,
    memory: run.gauge.memory(),
    notes: run.notes,
  }
}

type Done = Pick<
  QuantizeReport,
  'calibration' | 'survey' | 'layers' | 'transforms' | 'kvCache' | 'texts' | 'files' | 'resumed'
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

/** A run that is done; a survey may have changed its settings. */
interface Written {
  readonly run: Run
  readonly done: Done
}

function write(run: Run): Promise<Written> {
  const { options, checkpoint, host } = run
  return withOutput(host, options, [checkpoint.place], (output) => fill(run, output))
}

async function fill(prepared: Run, output: Output): Promise<Written> {
  const { checkpoint, options } = prepared
  const set = await calibrate(prepared)
  const journal = await output.journal.lines()
  const copies = await filesToCopy(checkpoint.store)
  // A resumed run has taken most of its space already.
  if (journal.length === 0) await startAfresh(prepared, output, copies)
  const { run, survey } = await withSchemes(prepared, output, set)
  // Schemes may have been chosen for a method that looks at nothing.
  const calibration = run.plan.needsCalibration === false ? undefined : set
  const { report: core, seconds } = await runJob(run, output, calibration, journal)
  const layers = withSeconds(core.layers ?? [], run.plan, seconds)
  const { store } = output
  const watch = { report: run.gauge.report, signal: options.signal }
  await copyFiles(checkpoint.store, store, copies, watch)
  await writeConfig(store, run.plan, core)
  const texts = await compareTexts(
    { ...run, ...watch, before: run.source, after: { store } },
    promptsOf(options),
  )
  await writeCard(store, await factsOf(run, { calibration, survey, layers, texts }))
  const files = await checkOutput({ ...run, ...watch, store, core })
  for (const note of core.warnings ?? []) if (!run.notes.includes(note)) run.notes.push(note)
  const { transforms = [], kvCache } = core
  const found = {
    calibration: setOf(calibration),
    ...(survey ? { survey } : {}),
    ...(kvCache ? { kvCache } : {}),
  }
  const done = { ...found, layers, transforms, texts, files, resumed: journal.length > 0 }
  return { run, done }
}

async function startAfresh(run: Run, output: Output, copies: readonly Copy[]): Promise<void> {
  await output.clear()
  const copied = copies.reduce((bytes, file) => bytes + file.bytes, 0)
  const { outputBytes, scratchBytes } = run.plan
  await checkSpace(output.store, outputBytes + scratchBytes + copied)
}

/** What the texts of the output are made from. */
async function factsOf(
  run: Run,
  made: Pick<Facts, 'calibration' | 'survey' | 'layers' | 'texts'>,
): Promise<Facts> {
  const { checkpoint, plan, settings, binding, maxShardBytes } = run
  const catalog: { version: string } = JSON.parse(await binding.catalog())
  return {
    ...made,
    ...run.loading,
    name: modelName(checkpoint.place),
    version: catalog.version,
    settings: plan.options ?? settings,
    plan,
    maxShardBytes,
    imatrix: run.options.imatrix?.split(/[/\\]/).at(-1),
    sourceBytes: bytesOf(checkpoint),
    bytes: plan.outputBytes,
    sourceCard: await cardOf(checkpoint.store),
  }
}

function setOf(calibration: CalibrationSet | undefined): QuantizeReport['calibration'] {
  if (!calibration) return null
  const { samples, length, text } = calibration
  return { samples, length, text }
}

/** A plan without the texts to write. */
function planOf(plan: CorePlan, settings: CoreOptions): Plan {
  const { config: _, index: _index, options = settings, ...rest } = plan
  return { ...rest, options }
}
