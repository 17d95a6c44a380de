/**
 * Which formats are read, written and run, and what loads them: one table, made of what the core
 * says of its own layouts and shaders and of the facts about other engines. Schemes of a format
 * that fare alike share a row.
 */
import type { Catalog } from './api.ts'
import { type Engine, ENGINES, type Loads, loadsScheme } from './quantize/engines.ts'
import { RELEASES } from './quantize/engine-rows.ts'

/** A row: schemes of one format that fare alike everywhere. */
export interface FormatRow {
  readonly format: string
  readonly schemes: readonly string[]
  readonly read: boolean
  readonly write: boolean
  /** Where lowbit runs it. */
  readonly cpu: boolean
  readonly gpu: boolean
  readonly browser: boolean
  /** What others do with it. */
  readonly engines: readonly Loads[]
}

/** Engines that are not this one. */
const OTHERS: readonly Engine[] = ENGINES.filter((engine) => !engine.startsWith('lowbit'))

/** Every format of a build, in the order of its catalog. */
export function formatRows({ formats }: Pick<Catalog, 'formats'>): readonly FormatRow[] {
  return formats.flatMap(({ name, schemes }) => {
    const rows = new Map<string, FormatRow>()
    for (const scheme of schemes) {
      const row = rowOf(name, scheme)
      const { schemes: _, ...rest } = row
      const key = JSON.stringify(rest)
      const before = rows.get(key)
      rows.set(key, before ? { ...before, schemes: [...before.schemes, scheme.name] } : row)
    }
    // What is neither read nor written is carried along, no more.
    return Array.from(rows.values()).filter(({ read, write }) => read || write)
  })
}

type Scheme = Catalog['formats'][number]['schemes'][number]

function rowOf(format: string, { name, read, write, gpu }: Scheme): FormatRow {
  // Every kernel of the CPU is in the wasm module too.
  const runs = { cpu: read, gpu: read && gpu, browser: read }
  // Blocks and floats have no scheme that engines would tell apart.
  const scheme = format === 'gguf' || format === 'safetensors' ? '' : name
  const engines = OTHERS.map((engine) => loadsScheme(engine, format, scheme))
  return { format, schemes: [name], read, write, ...runs, engines }
}

function said(truth: boolean): string {
  return truth ? 'yes' : 'no'
}

/** The rows as cells under a head, caveats as numbers, and the caveats. */
export function formatCells(rows: readonly FormatRow[]): {
  readonly cells: readonly (readonly string[])[]
  readonly notes: readonly string[]
} {
  const notes: string[] = []
  const cell = ({ loads, note }: Loads): string => {
    if (note === undefined || loads === 'no') return loads
    if (!notes.includes(note)) notes.push(note)
    return `${loads} (${notes.indexOf(note) + 1})`
  }
  const head = ['format', 'schemes', 'read', 'write', 'CPU', 'GPU', 'browser', ...OTHERS]
  const body = rows.map(({ format, schemes, read, write, cpu, gpu, browser, engines }) => [
    format,
    schemes.join(', '),
    ...[read, write, cpu, gpu, browser].map(said),
    ...engines.map(cell),
  ])
  return { cells: [head, ...body], notes }
}

/** The table in Markdown, as it stands in README.md. */
export function formatMarkdown(rows: readonly FormatRow[]): string {
  const { cells, notes } = formatCells(rows)
  const marked = cells.map((row, i) => row.map((cell, j) => (i > 0 && j < 2 ? codes(cell) : cell)))
  const widths = (marked[0] ?? []).map((_, j) => Math.max(...marked.map((row) => width(row[j]))))
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, j) => cell.padEnd(widths[j] ?? 0)).join(' | ')} |\n`
  const [head = [], ...body] = marked
  const rule = line(widths.map((count) => '-'.repeat(count)))
  const list = notes.map((note, i) => `${i + 1}. ${note}\n`).join('')
  return `${line(head)}${rule}${body.map(line).join('')}\n${list}\n${releasesText()}\n`
}

/** Of which releases the table speaks. */
export function releasesText(): string {
  const list = Object.entries(RELEASES).map(([engine, release]) => `${engine} ${release}`)
  return `Facts about other engines: ${list.join(', ')}.`
}

function width(cell: string | undefined): number {
  return cell?.length ?? 0
}

function codes(cell: string): string {
  return cell
    .split(', ')
    .map((word) => `\`${word}\``)
    .join(', ')
}
