/** `lowbit formats`: what is read, written and run, and what loads it elsewhere. */
import { Option } from 'commander'
import { LowbitError, nearest, quote } from '../error.ts'
import {
  formatCells,
  formatMarkdown,
  type FormatRow,
  formatRows,
  releasesText,
} from '../formats.ts'
import { type Context, printJson, type Register } from './command.ts'
import { tableText } from './terminal.ts'

interface Flags {
  readonly json?: boolean
  readonly markdown?: boolean
}

const EXAMPLES = `
Examples:
  lowbit formats
  lowbit formats gguf
  lowbit formats --json`

/** Adds the command. */
export const registerFormats: Register = (program, context) => {
  program
    .command('formats')
    .summary('list formats: read, written, run, and what loads them')
    .description(
      'Lists every format with its schemes: whether it is read and written, where lowbit runs it, ' +
        'and what other engines do with it. Schemes that fare alike share a row.',
    )
    .argument('[format]', 'only this one')
    .addOption(new Option('--markdown', 'print a table in Markdown').conflicts('json'))
    .option('--json', 'print the rows as JSON')
    .addHelpText('after', EXAMPLES)
    .action((format: string | undefined, flags: Flags) => formats(context, format, flags))
}

async function formats(context: Context, format: string | undefined, flags: Flags): Promise<void> {
  const api = await context.api()
  const rows = only(formatRows(await api.catalog()), format)
  if (flags.json) return printJson(context, rows)
  context.terminal.out(flags.markdown ? formatMarkdown(rows) : plainText(rows))
}

function only(rows: readonly FormatRow[], format: string | undefined): readonly FormatRow[] {
  if (format === undefined) return rows
  const found = rows.filter((row) => row.format === format)
  if (found.length > 0) return found
  const near = nearest(
    format,
    rows.map((row) => row.format),
  )
  throw new LowbitError('option', `There is no format ${quote(format)}`, {
    remedy: `did you mean ${quote(near ?? '')}?`,
  })
}

function plainText(rows: readonly FormatRow[]): string {
  const { cells, notes } = formatCells(rows)
  // Names of schemes are long, so they stand last.
  const turned = cells.map((row) => row.toSpliced(1, 1).concat(row[1] ?? ''))
  const list = notes.map((note, i) => `(${i + 1}) ${note}\n`).join('')
  return `${tableText(turned)}\n${list}${releasesText()}\n`
}
