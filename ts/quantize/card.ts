/** README.md of a quantized model. Nothing in it is a time. */
import { parseDocument, stringify } from 'yaml'
import { bytesText, isObject, type Json } from '../bytes.ts'
import type { CoreOptions } from '../recipe/core.ts'
import type { CalibrationSet } from './calibration.ts'
import type { Compared } from './compare.ts'
import type { Loads } from './engines.ts'
import { kindsOf } from './kinds.ts'
import { adapterText, parallelText, stepsText } from './phrases.ts'
import type { CorePlan, LayerReport, Parallel } from './report.ts'

/** What the card is made from. */
export interface CardFacts {
  /** Name of the source, without folders. */
  readonly name: string
  readonly version: string
  /** Options as they were in effect. */
  readonly settings: CoreOptions
  readonly calibration: CalibrationSet | undefined
  /** Name of the importance matrix that ranges were searched with. */
  readonly imatrix: string | undefined
  readonly plan: CorePlan
  readonly layers: readonly LayerReport[]
  readonly engines: readonly Loads[]
  readonly tensorParallel: readonly Parallel[]
  readonly texts: readonly Compared[]
  readonly sourceBytes: number
  readonly bytes: number
  /** README.md of the source, for its licence. */
  readonly sourceCard: string | undefined
  /** recipe.yaml. */
  readonly recipe: string
}

/** README.md of the output. */
export function cardText(facts: CardFacts): string {
  const { name, version, plan, sourceBytes, bytes, engines, recipe, texts } = facts
  const rows: readonly (readonly string[])[] = [
    ['', ''],
    ['steps', stepsText(facts.settings)],
    ['format', facts.settings.format],
    ['calibration', calibrationText(facts.calibration)],
    ...(facts.imatrix === undefined ? [] : [['importance matrix', facts.imatrix]]),
    ...deviceRows(plan),
    ['layers quantized', `${plan.layers.length}, ${plan.ignored.length} left as they were`],
    ['bits per weight', `${plan.bitsPerWeight.toFixed(3)} in the quantized layers`],
    ['size', `${bytesText(bytes)}, from ${bytesText(sourceBytes)}`],
    ...fallbackRows(facts.layers),
  ]
  const loads = engines.map(({ engine, loads: verdict, note = '' }) => [engine, verdict, note])
  const tags = [facts.settings.format, facts.settings.scheme]
  return `${frontMatter(facts.sourceCard, tags)}# ${name}, quantized

Made from ${name} by [lowbit](https://github.com/lowbit/lowbit) ${version}.

${table(rows)}

## Layers

${table([['layers', 'count', 'method', 'scheme', 'mean error', 'largest error'], ...kindsOf(facts.layers)])}

An error is that of the weights, relative to their size.

## What loads it

${table([['engine', 'loads it', ''], ...loads])}

Tensor parallelism: ${facts.tensorParallel.map(parallelText).join('; ')}.

- lowbit, in Node and in browsers: \`const model = await load('<this folder>')\`
- transformers: \`AutoModelForCausalLM.from_pretrained('<this folder>')\`
- vLLM: \`vllm serve <this folder>\`

Measure it against the original with \`lowbit eval <this folder> --reference <original>\`.
${comparedText(texts)}
## Recipe

\`\`\`yaml
${recipe}\`\`\`
`
}

function calibrationText(set: CalibrationSet | undefined): string {
  if (!set) return 'none'
  const files = set.files.map(({ sha256 = '' }) => `sha256 ${sha256.slice(0, 12)}`)
  return `${set.samples} samples of ${set.length} tokens from ${set.text} (${files.join(', ')})`
}

/** The GPU, where one calibrated; the CPU goes without saying. */
function deviceRows({ adapter }: CorePlan): readonly (readonly string[])[] {
  return adapter ? [['calibrated on', adapterText(adapter)]] : []
}

function fallbackRows(layers: readonly LayerReport[]): readonly (readonly string[])[] {
  const fallen = layers.filter(({ fallback }) => fallback !== undefined && fallback !== null)
  if (fallen.length === 0) return []
  return [['fallbacks', fallen.map((layer) => `${layer.name}: ${layer.fallback}`).join('; ')]]
}

function comparedText(texts: readonly Compared[]): string {
  if (texts.length === 0) return ''
  const parts = texts.map(
    ({ prompt, before, after }) =>
      `**${oneLine(prompt)}**\n\n- before: ${oneLine(before)}\n- after: ${oneLine(after)}\n`,
  )
  return `\n## Text before and after\n\nThe likeliest tokens after each prompt.\n\n${parts.join('\n')}`
}

/** Text of a model, without what Markdown would take for its own. */
function oneLine(text: string): string {
  return text
    .trim()
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/([\\`*_[\]<>#|])/g, '\\$1')
}

/** A table in Markdown, its first row the head. */
export function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')))
  return [head, head.map(() => '---'), ...body].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** What the source's card says about itself, licence first of all, and what this model adds. */
export function frontMatter(
  sourceCard: string | undefined,
  added: readonly string[],
  dropped: ReadonlySet<string> = new Set(),
): string {
  const source = /^---\r?\n([\s\S]*?)\r?\n---/.exec(sourceCard ?? '')?.[1] ?? ''
  const kept = keptOf(source)
  const own = listOf(kept['tags']).filter((tag) => !dropped.has(tag))
  const tags = [...own, ...added, 'lowbit']
  const { library_name: library = 'lowbit' } = kept
  const facts = { ...kept, library_name: library, tags: [...new Set(tags)] }
  return `---\n${stringify(facts, { lineWidth: 0 })}---\n\n`
}

/** Figures of the original are not those of this model. */
const DROPPED = new Set(['model-index', 'metrics'])

function keptOf(source: string): Json {
  const document = parseDocument(source, { logLevel: 'error' })
  const value: unknown =
    document.errors.length === 0 ? document.toJS({ maxAliasCount: 100 }) : undefined
  if (isObject(value))
    return Object.fromEntries(Object.entries(value).filter(([key]) => !DROPPED.has(key)))
  // A card that is not YAML still says under which licence it is.
  const lines = source.split('\n').map((line) => /^(license(?:_name|_link)?): *(.+)$/.exec(line))
  return Object.fromEntries(lines.flatMap((match) => (match ? [[match[1], match[2]]] : [])))
}

function listOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : []
}
