/** What `lowbit quantize` prints: the plan, and the table at the end. */
import { bytesText } from '../bytes.ts'
import { parallelText, stepsText } from '../quantize/card.ts'
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
  return tableText([
    ['layer', 'shape', 'scheme', 'method'],
    ...layers,
    ...plan.ignored.map((name) => [name, '', 'as it is']),
    [],
    ['steps', stepsOf(report)],
    ['output', `${bytesText(plan.outputBytes)}, from ${bytesText(sourceBytes)}`],
    ...bitsRows(report),
    ['memory at most', bytesText(plan.memoryPeakBytes)],
    ['disk meanwhile', bytesText(plan.scratchBytes)],
    [],
    ...loadingRows(report),
  ])
}

/** The table at the end of a run. */
export function doneText(report: QuantizeReport): string {
  const { layers, files, out, bytes, sourceBytes, seconds, resumed, calibration } = report
  const set = calibration
    ? `${calibration.samples} × ${calibration.length} tokens from ${calibration.text}`
    : 'none'
  const table = tableText([
    ['layers', 'count', 'method', 'scheme', 'mean error', 'largest error'],
    ...kindsOf(layers),
    [],
    ['written', out],
    ['steps', stepsOf(report)],
    ['calibration', set],
    ['size', `${bytesText(bytes)}, from ${bytesText(sourceBytes)}`],
    ...bitsRows(report),
    ['files', `${files.length}, read back and checked`],
    ...memoryRows(report),
    ['time', timeText(seconds) + (resumed ? ', after going on with an unfinished run' : '')],
    ...fallbackRows(report),
    [],
    ...loadingRows(report),
  ])
  return table + textsText(report)
}

function stepsOf({ plan, format, recipe }: QuantizeReport): string {
  const steps = plan.options ? stepsText(plan.options) : ''
  const name = recipe === undefined ? '' : ` (${recipe})`
  return `${steps}, ${format}${name}`
}

function bitsRows({ plan }: QuantizeReport): readonly Row[] {
  const { modelBitsPerWeight: model } = plan
  const whole = model === undefined ? '' : `, ${model.toFixed(3)} over the whole model`
  return [['bits per weight', plan.bitsPerWeight.toFixed(3) + whole]]
}

function memoryRows({ memory, plan }: QuantizeReport): readonly Row[] {
  if (memory.length === 0) return []
  const most = Math.max(...memory.map(({ rssBytes }) => rssBytes))
  return [['memory', `${bytesText(most)} at most; ${bytesText(plan.memoryPeakBytes)} were planned`]]
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
