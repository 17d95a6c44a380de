/** README.md of a converted model. Nothing in it is a time. */
import { bytesText } from '../bytes.ts'
import { frontMatter, table } from '../quantize/card.ts'
import type { ConvertReport } from './report.ts'
import { kindsOf, reasonsOf } from './kinds.ts'

/** What the card is made from. */
export interface CardFacts extends Pick<
  ConvertReport,
  'format' | 'layers' | 'exact' | 'rounded' | 'merged' | 'engines' | 'sourceBytes' | 'bytes'
> {
  /** Names of source and adapter, without folders. */
  readonly name: string
  readonly adapter: string | undefined
  readonly version: string
  /** Tags of the source that are not true of the result: formats and schemes. */
  readonly dropped: ReadonlySet<string>
  /** README.md of the source, for its licence. */
  readonly sourceCard: string | undefined
}

/** README.md of the output. */
export function cardText(facts: CardFacts): string {
  const { name, adapter, version, format, layers, exact, rounded, merged, engines } = facts
  const rows = [
    ['', ''],
    ['format', format],
    ['layers', `${exact} exact, ${rounded} rounded, ${merged} merged`],
    ...(adapter === undefined ? [] : [['adapter', adapter]]),
    ['size', `${bytesText(facts.bytes)}, from ${bytesText(facts.sourceBytes)}`],
  ]
  const kinds = [
    ['layers', 'count', 'before', 'after', 'values', 'largest error'],
    ...kindsOf(layers),
  ]
  const reasons = reasonsOf(layers).map((reason) => `- ${reason}\n`)
  const loads = engines.map(({ engine, loads: verdict, note = '' }) => [engine, verdict, note])
  const loading =
    loads.length === 0
      ? ''
      : `\n## What loads it\n\n${table([['engine', 'loads it', ''], ...loads])}\n`
  return `${frontMatter(facts.sourceCard, [format], facts.dropped)}# ${name}, as ${format}

Converted from ${name} by [lowbit](https://github.com/lowbit/lowbit) ${version}.

${table(rows)}

## Layers

${table(kinds)}

${reasons.join('')}
Exact layers have every value that they had; an error is that of the weights, relative to their size.
Every tensor that is not listed is as it was.
${loading}`
}
