/** What `lowbit convert` prints: the plan, and the table at the end. */
import { bytesText } from '../bytes.ts'
import { kindsOf, reasonsOf } from '../convert/kinds.ts'
import type { ConvertReport } from '../convert/report.ts'
import { tableText, timeText } from './terminal.ts'

type Row = readonly string[]

/** The plan of a dry run. */
export function planText(report: ConvertReport): string {
  const { plan, sourceBytes, format } = report
  const layers = plan.layers.map(({ name, rows, cols, from, scheme, how }) => [
    name,
    `${rows} × ${cols}`,
    from,
    scheme,
    how,
  ])
  const list = tableText([['layer', 'shape', 'before', 'after', 'values'], ...layers])
  const facts = tableText([
    ['format', format],
    ...reasonsOf(plan.layers).map((reason) => ['values', reason]),
    ['output', `${bytesText(plan.outputBytes)}, from ${bytesText(sourceBytes)}`],
    ...bitsRows(report),
    ['memory at most', bytesText(plan.memoryPeakBytes)],
  ])
  return [list, facts, ...loadingText(report)].join('\n')
}

/** The table at the end of a run. */
export function doneText(report: ConvertReport): string {
  const { layers, files, out, bytes, sourceBytes, seconds, resumed, format, lora } = report
  const { exact, rounded, merged } = report
  const kinds = tableText([
    ['layers', 'count', 'before', 'after', 'values', 'largest error'],
    ...kindsOf(layers),
  ])
  const facts = tableText([
    ['written', out],
    ['format', format],
    ...(lora === undefined ? [] : [['adapter', lora]]),
    ['layers', `${exact} exact, ${rounded} rounded, ${merged} merged`],
    ...reasonsOf(layers).map((reason) => ['values', reason]),
    ['size', `${bytesText(bytes)}, from ${bytesText(sourceBytes)}`],
    ...bitsRows(report),
    ['files', `${files.length}, read back and checked`],
    ['time', timeText(seconds) + (resumed ? ', after going on with an unfinished run' : '')],
  ])
  return [kinds, facts, ...loadingText(report)].join('\n')
}

function bitsRows({ bitsPerWeight }: ConvertReport): readonly Row[] {
  return bitsPerWeight === null ? [] : [['bits per weight', bitsPerWeight.toFixed(3)]]
}

function loadingText({ engines }: ConvertReport): readonly string[] {
  if (engines.length === 0) return []
  const rows = engines.map(({ engine, loads, note }) => [
    engine,
    note === undefined ? loads : `${loads}: ${note}`,
  ])
  return [tableText(rows)]
}
