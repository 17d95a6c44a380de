/** What `lowbit quantize` prints: the plan, and the table at the end. */
import { bytesText } from '../bytes.ts'
import { adapterText, parallelText, stepsText } from '../quantize/phrases.ts'
import { kindsOf } from '../quantize/kinds.ts'
import type { QuantizeReport } from '../quantize/report.ts'
import { tableText, timeText } from './terminal.ts'

type Row = readonly string[]

/** The plan of a dry run. */
export function planText(report: QuantizeReport): string {
  const { plan, sourceBytes } = report
  const layers = plan.layers.map(({ name, rows, cols, scheme, method }) => [
    name,
    `${rows} × ${cols}`,
    scheme,
    method,
  ])
  const list = tableText([
    ['layer', 'shape', 'scheme', 'method'],
    ...layers,
    ...plan.ignored.map((name) => [name, '', 'as it is']),
  ])
  const facts = tableText([
    ['steps', stepsOf(report)],
    ...placesRows(report),
    ['output', `${bytesText(plan.outputBytes)}, from ${bytesText(sourceBytes)}`],
    ...bitsRows(report),
    ...deviceRows(plan),
    ['memory at most', bytesText(plan.memoryPeakBytes)],
    ...deviceMemoryRows(plan),
    ['disk meanwhile', bytesText(plan.scratchBytes)],
    ...timeRows(plan),
  ])
  return [list, facts, tableText(loadingRows(report))].join('\n')
}

/** The table at the end of a run. */
export function doneText(report: QuantizeReport): string {
  const { layers, files, out, bytes, sourceBytes, seconds, resumed, calibration } = report
  const set = calibration
    ? `${calibration.samples} × ${calibration.length} tokens from ${calibration.text}`
    : 'none'
  const kinds = tableText([
    ['layers', 'count', 'method', 'scheme', 'mean error', 'largest error'],
    ...kindsOf(layers),
  ])
  const facts = tableText([
    ['written', out],
    ['steps', stepsOf(report)],
    ['calibration', set],
    ...deviceRows(report.plan),
    ['size', `${bytesText(bytes)}, from ${bytesText(sourceBytes)}`],
    ...bitsRows(report),
    ...cacheRows(report),
    ['files', `${files.length}, read back and checked`],
    ...memoryRows(report),
    ['time', timeText(seconds) + (resumed ? ', after going on with an unfinished run' : '')],
    ...fallbackRows(report),
  ])
  const tables = [kinds, facts, tableText(loadingRows(report))]
  return tables.join('\n') + textsText(report)
}

function stepsOf({ plan, format, recipe }: QuantizeReport): string {
  const steps = plan.options ? stepsText(plan.options) : ''
  const name = recipe === undefined ? '' : ` (${recipe})`
  return `${steps}, ${format}${name}`
}

/** The GPU, where one calibrates. */
function deviceRows({ adapter }: QuantizeReport['plan']): readonly Row[] {
  return adapter ? [['device', adapterText(adapter)]] : []
}

function deviceMemoryRows({ deviceMemoryBytes = 0 }: QuantizeReport['plan']): readonly Row[] {
  return deviceMemoryBytes > 0 ? [['memory of the gpu', bytesText(deviceMemoryBytes)]] : []
}

/** What scales of the KV cache came out. */
function cacheRows({ kvCache }: QuantizeReport): readonly Row[] {
  if (!kvCache) return []
  const keys = rangeText(kvCache.blocks.flatMap((block) => block.keys))
  const values = rangeText(kvCache.blocks.flatMap((block) => block.values))
  return [['KV cache', `${kvCache.scheme}: scales of keys ${keys}, of values ${values}`]]
}

function rangeText(values: readonly number[]): string {
  return `${Math.min(...values).toPrecision(3)} to ${Math.max(...values).toPrecision(3)}`
}

/** How often each transform is made. */
function placesRows({ plan }: QuantizeReport): readonly Row[] {
  const counts = new Map<string, number>()
  for (const { kind } of plan.transforms ?? []) counts.set(kind, (counts.get(kind) ?? 0) + 1)
  return Array.from(counts, ([kind, count]) => [
    kind.toLowerCase(),
    count === 1 ? 'in one place' : `in ${count} places`,
  ])
}

function bitsRows({ plan, survey }: QuantizeReport): readonly Row[] {
  const { modelBitsPerWeight: model } = plan
  if (plan.kind === 'sensitivity') {
    return [['bits per weight', `${plan.options?.targetBpw ?? ''}: schemes are chosen first`]]
  }
  const whole = model === undefined ? '' : `, ${model.toFixed(3)} over the whole model`
  const wanted = survey ? `, chosen for ${survey.targetBpw}` : ''
  return [['bits per weight', plan.bitsPerWeight.toFixed(3) + wanted + whole]]
}

function memoryRows({ memory, plan }: QuantizeReport): readonly Row[] {
  if (memory.length === 0) return []
  const stages = memory.map(({ stage, rssBytes }) => `${stage} ${bytesText(rssBytes)}`)
  return [
    ['memory planned', bytesText(plan.memoryPeakBytes)],
    ['whole process', stages.join(', ')],
  ]
}

/** A forecast, where there is one. */
function timeRows({ seconds }: QuantizeReport['plan']): readonly Row[] {
  return seconds === undefined ? [] : [['time', `about ${timeText(seconds)} on this machine`]]
}

function fallbackRows({ layers }: QuantizeReport): readonly Row[] {
  return layers
    .filter(({ fallback }) => fallback !== undefined && fallback !== null)
    .map(({ name, fallback }) => ['fallback', `${name}: ${fallback}`])
}

function loadingRows({ engines, tensorParallel }: QuantizeReport): readonly Row[] {
  return [
    ...engines.map(({ engine, loads, note }) => [
      engine,
      note === undefined ? loads : `${loads}: ${note}`,
    ]),
    ['tensor parallel', tensorParallel.map(parallelText).join('; ')],
  ]
}

function textsText({ texts }: QuantizeReport): string {
  const parts = texts.map(
    ({ prompt, before, after }) =>
      `\n${prompt}\n  before:${shown(before)}\n  after: ${shown(after)}\n`,
  )
  return parts.join('')
}

/** A model's text on one line, without what would move the cursor. */
function shown(text: string): string {
  return ` ${text.replaceAll(/[\s\p{Cc}]+/gu, ' ').trim()}`
}
