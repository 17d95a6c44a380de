/** One conversion from a source to a finished folder. */
import type { Binding } from '../binding.ts'
import type { Json } from '../bytes.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint.ts'
import type { Host, Output, Source } from '../host.ts'
import { modelName } from '../hub/name.ts'
import { checkOptions } from '../option-rules.ts'
import type { ConvertOptions } from '../options.ts'
import { meter } from '../progress.ts'
import { checkOutput } from '../quantize/check.ts'
import { drive } from '../quantize/drive.ts'
import { enginesFor } from '../quantize/engines.ts'
import { checkSpace, copyFiles, filesToCopy, writeText } from '../quantize/files.ts'
import { type Gauge, gauge } from '../quantize/gauge.ts'
import { bytesOf, cardOf, placeOf, planFrom, withJob, withOutput } from '../quantize/job.ts'
import type { Store } from '../store/store.ts'
import { type Adapter, openAdapter } from './adapter.ts'
import { cardText } from './card.ts'
import { formatOf, ggufParts } from './gguf.ts'
import type { ConvertPlan, ConvertReport, CoreConvertPlan, CoreConvertReport } from './report.ts'
import { jobText, reader } from './request.ts'

/** What is not copied: the texts that are written anew. */
const WRITTEN: ReadonlySet<string> = new Set(['config.json', 'README.md'])

/** Where the work is done. */
interface World {
  readonly binding: Binding
  readonly host: Host
}

/** Options whose format is known. */
type Formatted = ConvertOptions & { readonly format: string }

/** One call, with everything that does not change during it. */
interface Run extends World {
  readonly options: Formatted
  readonly checkpoint: Checkpoint
  readonly adapter: Adapter | undefined
  /** What a GGUF file holds beside tensors. */
  readonly gguf: Json | undefined
  readonly plan: CoreConvertPlan
  readonly gauge: Gauge
}

/** Plans, converts, writes, checks and publishes. */
export async function convertModel(
  world: World,
  source: Source,
  options: ConvertOptions,
  lora: Source | undefined,
): Promise<ConvertReport> {
  checkOptions('convert', options)
  const begun = performance.now()
  const run = await prepare(world, source, { ...options, format: formatOf(options) }, lora)
  const { report, resumed, files } = options.dryRun ? nothing() : await write(run)
  const { checkpoint, adapter, plan } = run
  return {
    ...summary(run, report),
    model: checkpoint.place,
    out: placeOf(options.out),
    ...(adapter ? { lora: adapter.tensors.store.place } : {}),
    dryRun: options.dryRun ?? false,
    plan: planOf(plan),
    bitsPerWeight: plan.bitsPerWeight,
    files,
    resumed,
    seconds: (performance.now() - begun) / 1000,
    memory: run.gauge.memory(),
    notes: [...new Set([...plan.warnings, ...report.warnings])],
  }
}

/** Everything that a user can get wrong surfaces here, before a tensor is read. */
async function prepare(
  world: World,
  source: Source,
  options: Formatted,
  lora: Source | undefined,
): Promise<Run> {
  const { binding, host } = world
  const checkpoint = await openCheckpoint(binding, source)
  const adapter = lora && (await openAdapter(binding, lora))
  const gguf = options.format === 'gguf' ? await ggufParts(host, checkpoint, options) : undefined
  const text = jobText(checkpoint, { options, adapter, gguf, threads: host.threads, journal: [] })
  const plan = await planFrom<CoreConvertPlan>(binding, text, checkpoint.place)
  return {
    ...world,
    options,
    checkpoint,
    adapter,
    gguf,
    plan,
    gauge: gauge(meter(options), host.memory),
  }
}

interface Done {
  readonly report: CoreConvertReport
  readonly resumed: boolean
  readonly files: ConvertReport['files']
}

/** What a dry run writes. */
function nothing(): Done {
  const report = { layers: [], exact: 0, rounded: 0, merged: 0, files: [], warnings: [] }
  return { report, resumed: false, files: [] }
}

/** What report and card have in common. */
function summary(
  { options, checkpoint, plan }: Run,
  { layers, exact, rounded, merged }: CoreConvertReport,
): Pick<
  ConvertReport,
  'format' | 'layers' | 'exact' | 'rounded' | 'merged' | 'engines' | 'sourceBytes' | 'bytes'
> {
  const { format } = options
  const planned =
    plan.bitsPerWeight === null ? [] : plan.layers.filter(({ scheme }) => /^[a-z]/.test(scheme))
  const sourceBytes = bytesOf(checkpoint)
  const engines = planned.length === 0 ? [] : enginesFor({ ...plan, format, layers: planned })
  return { format, layers, exact, rounded, merged, engines, sourceBytes, bytes: plan.outputBytes }
}

function write(run: Run): Promise<Done> {
  const { options, checkpoint, adapter, host } = run
  const inputs = [checkpoint.place, ...(adapter ? [adapter.tensors.store.place] : [])]
  return withOutput(host, options, inputs, (output) => fill(run, output))
}

async function fill(run: Run, output: Output): Promise<Done> {
  const { checkpoint, plan, options } = run
  const journal = await output.journal.lines()
  // A format that keeps its own metadata is all in its files.
  const alone = plan.config === null
  const copies = alone ? [] : await filesToCopy(checkpoint.store, WRITTEN)
  // A resumed run has taken most of its space already.
  if (journal.length === 0) {
    await output.clear()
    const copied = copies.reduce((bytes, file) => bytes + file.bytes, 0)
    await checkSpace(output.store, plan.outputBytes + copied)
  }
  const report = await runJob(run, output, journal)
  const { store } = output
  const watch = { report: run.gauge.report, signal: options.signal }
  await copyFiles(checkpoint.store, store, copies, watch)
  if (!alone) await writeTexts(run, store, report)
  const files = await checkOutput({ ...run, ...watch, store, core: report })
  return { report, resumed: journal.length > 0, files }
}

/** Drives the core's job to its end. */
async function runJob(
  run: Run,
  output: Output,
  journal: readonly string[],
): Promise<CoreConvertReport> {
  const { binding, checkpoint, adapter, gguf, plan, options, host } = run
  const text = jobText(checkpoint, { options, adapter, gguf, threads: host.threads, journal })
  const read = reader(checkpoint, adapter)
  const { signal } = options
  const driving = { binding, read, plan, output, signal, report: run.gauge.report }
  const driven = await withJob(binding, text, new Uint32Array(0), (job) =>
    drive<CoreConvertReport>({ ...driving, job }),
  )
  return driven.report
}

/** What a loader and a reader need. */
async function writeTexts(run: Run, store: Store, report: CoreConvertReport): Promise<void> {
  const { checkpoint, adapter, plan, binding } = run
  if (plan.index) await writeText(store, 'model.safetensors.index.json', plan.index)
  if (plan.config !== null) await writeText(store, 'config.json', plan.config)
  const catalog: { version: string; formats?: readonly { name: string }[] } = JSON.parse(
    await binding.catalog(),
  )
  const card = await cardOf(checkpoint.store)
  const first = await cardOf(checkpoint.store, 'README.original.md')
  // It says who made the original and under what licence.
  if (card !== undefined && first === undefined) await writeText(store, 'README.original.md', card)
  const facts = {
    ...summary(run, report),
    name: modelName(checkpoint.place),
    adapter: adapter && modelName(adapter.tensors.store.place),
    version: catalog.version,
    dropped: new Set([
      ...(catalog.formats ?? []).map(({ name }) => name),
      ...plan.layers.map(({ from }) => from),
    ]),
    sourceCard: first ?? card,
  }
  await writeText(store, 'README.md', cardText(facts))
}

/** A plan without the texts to write. */
function planOf(plan: CoreConvertPlan): ConvertPlan {
  const { config: _, index: _index, ...rest } = plan
  return rest
}
