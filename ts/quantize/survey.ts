/**
 * Schemes by budget: a survey of the model first, whose report holds the options of the
 * quantization proper. What it chose is kept in the scratch, so that a resumed run need not repeat
 * it.
 */
import { objectOf, textOf } from '../bytes.ts'
import type { Host, Output } from '../host.ts'
import type { CoreOptions } from '../recipe/core.ts'
import { readOptional, type Store } from '../store/store.ts'
import type { CalibrationSet } from './calibration.ts'
import { writeText } from './files.ts'
import type { CoreReport } from './report.ts'
import { planWith, type Run, runJob } from './run.ts'

/** What a survey found. */
export interface Survey {
  readonly targetBpw: number
  /** Of the schemes that were chosen. */
  readonly bitsPerWeight: number
  /** Sum of what each linear is expected to cost, in nats. */
  readonly expectedKl: number
  /** Tokens that divergence was measured on. */
  readonly measuredTokens: number
  /** Every place with every scheme: bits, second moments, divergence where it was measured. */
  readonly table: readonly unknown[]
}

/** The core's report on a survey. */
type SurveyReport = Survey & { readonly options: CoreOptions }

const KEPT = 'survey.json'
const KEPT_BYTES_MAX = 256 << 20

/** The run with schemes chosen, where a budget asks for that; otherwise as it is. */
export async function withSchemes(
  run: Run,
  output: Output,
  calibration: CalibrationSet | undefined,
): Promise<{ readonly run: Run; readonly survey: Survey | undefined }> {
  if (run.plan.kind !== 'sensitivity') return { run, survey: undefined }
  const key = keyOf(run, calibration)
  const kept = await readKept(output.scratch, key)
  const { options, ...survey } = kept ?? (await surveyed(run, output, calibration))
  if (!kept) {
    await writeText(output.scratch, KEPT, JSON.stringify({ key, report: { options, ...survey } }))
  }
  const planned = await planWith(run, options)
  for (const note of planned.plan.warnings) if (!run.notes.includes(note)) run.notes.push(note)
  return { run: { ...run, ...planned }, survey }
}

async function surveyed(
  run: Run,
  output: Output,
  calibration: CalibrationSet | undefined,
): Promise<SurveyReport> {
  // It writes no model, and must not touch what a resumed run has in the scratch.
  const scratch = prefixed(output.scratch, 'survey-')
  const plan = { ...run.plan, outputs: [] }
  const { report } = await runJob({ ...run, plan }, { ...output, scratch }, calibration, [])
  await scratch.clear()
  return asSurvey(report)
}

function asSurvey(report: CoreReport): SurveyReport {
  const found: unknown = report
  if (isSurvey(found)) return found
  throw new TypeError('the survey ended without options')
}

function isSurvey(value: unknown): value is SurveyReport {
  return typeof value === 'object' && value !== null && 'options' in value && 'table' in value
}

/** What a survey depends on. */
function keyOf({ host, plan }: Run, calibration: CalibrationSet | undefined): string {
  return `${plan.fingerprint ?? ''} ${digestOf(host, calibration?.tokens ?? new Uint32Array(0))}`
}

function digestOf(host: Host, tokens: Uint32Array): string {
  const hash = host.sha256()
  hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
  return hash.hex()
}

async function readKept(scratch: Store, key: string): Promise<SurveyReport | undefined> {
  const bytes = await readOptional(scratch, KEPT, KEPT_BYTES_MAX)
  if (!bytes) return undefined
  const place = `${scratch.place}/${KEPT}`
  const kept = objectOf(textOf(bytes, 'resume-corrupt', place), 'resume-corrupt', place)
  return kept['key'] === key && isSurvey(kept['report']) ? kept['report'] : undefined
}

/** A store whose names begin with something, and which can forget what was begun through it. */
function prefixed(store: Store, prefix: string): Store & { clear(): Promise<void> } {
  const names = new Set<string>()
  return {
    place: store.place,
    list: () => store.list(),
    size: (name) => store.size(prefix + name),
    identity: (name) => store.identity(prefix + name),
    read: (name, range) => store.read(prefix + name, range),
    begin: (name, bytes) => {
      names.add(name)
      return store.begin(prefix + name, bytes)
    },
    remove: (name) => store.remove(prefix + name),
    free: () => store.free(),
    lock: () => store.lock(),
    async clear() {
      for (const name of names) await store.remove(prefix + name)
    },
  }
}
