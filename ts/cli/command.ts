/** What a command is, and the parts that several share. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Lowbit } from '../api.ts'
import { LowbitError, quote } from '../error.ts'
import type { Model } from '../model.ts'
import type { LoadOptions, RunOptions } from '../options.ts'
import type { Watching } from '../watching.ts'
import type { Terminal } from './terminal.ts'

/** How a model can be named, for the help of every command that takes one. */
export const MODEL = 'folder, file, address, or owner/name@revision on the Hugging Face hub'

/** What a command works with. */
export interface Context {
  /** Opens the binding; only commands that compute pay for it. */
  api(): Promise<Lowbit>
  readonly terminal: Terminal
  /** Aborted when the user or the system asks to stop. */
  readonly signal: AbortSignal
  /** Lines of standard input. */
  lines(): AsyncIterable<string>
}

/** One command of the program. */
export type Register = (program: Command, context: Context) => void

/** Prints one JSON document. */
export function printJson(context: Context, value: unknown): void {
  context.terminal.out(`${JSON.stringify(value, undefined, 2)}\n`)
}

/** What a long call is stopped by, and where it says how far it is. */
export function watching({ signal, terminal }: Context): Required<Watching> {
  return { signal, onProgress: terminal.progress }
}

/** Prints what became of a call: notes on stderr and a table, or the whole report as JSON. */
export function printReport<Report extends { readonly notes: readonly string[] }>(
  context: Context,
  report: Report,
  json: boolean | undefined,
  text: (report: Report) => string,
): void {
  if (json) return printJson(context, report)
  for (const note of report.notes) context.terminal.note(note)
  context.terminal.out(text(report))
}

/** Lends a model to `use` and frees it, whatever happens. */
export async function withModel(
  context: Context,
  place: string,
  options: LoadOptions,
  use: (model: Model) => Promise<void>,
): Promise<void> {
  const api = await context.api()
  const model = await api.load(place, { ...options, signal: context.signal })
  try {
    await use(model)
  } finally {
    await model.dispose()
  }
}

/** A whole number of at least `min`. */
export function integer(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= min) return value
    throw new InvalidArgumentError(`It must be a whole number of at least ${min}.`)
  }
}

/** A number from `min` to `max`. */
export function number(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() !== '' && value >= min && value <= max) return value
    throw new InvalidArgumentError(`It must be a number from ${min} to ${max}.`)
  }
}

/** A size as `5GB`, `512MB` or a number of bytes. */
export function size(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?$/i.exec(text.trim())
  const unit = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12 }[(match?.[2] ?? 'B').toLowerCase()]
  const bytes = Math.floor(Number(match?.[1]) * (unit ?? Number.NaN))
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes
  throw new InvalidArgumentError('It must be a size such as 5GB.')
}

/**
 * The `pattern=value` of a flag as pairs; `option` names one that is none. A pattern may hold an
 * equals sign, a value cannot.
 */
export function pairsOf(
  flag: string,
  texts: readonly string[],
  example: string,
): readonly (readonly [string, string])[] {
  return texts.map((text) => {
    const at = text.lastIndexOf('=')
    if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
    throw new LowbitError('option', `${flag} is ${quote(text)}`, {
      remedy: `write a pattern and what it gets, as in '${example}'`,
    })
  })
}

/** Flags of every command that runs a model. */
export interface RunFlags {
  readonly device?: RunOptions['device']
  readonly compute?: RunOptions['compute']
  readonly gpuLayers?: number
  readonly threads?: number
  readonly isa?: string
}

/** Adds the flags of every command that runs a model. */
export function addRunFlags(command: Command): Command {
  return command
    .addOption(new Option('--device <device>', 'where to run').choices(['auto', 'cpu', 'gpu']))
    .addOption(
      new Option('--compute <mode>', 'f32 is the reference, int8 is fast').choices([
        'auto',
        'f32',
        'int8',
      ]),
    )
    .option('--gpu-layers <n>', 'how many of the last blocks the GPU holds', integer(0))
    .option('--threads <n>', 'CPU threads', integer(1))
    .addOption(new Option('--isa <name>', 'instruction set').hideHelp())
}

/** Adds the flags of every command that writes a model and can be gone on with. */
export function addJobFlags(command: Command): Command {
  return command
    .option('--threads <n>', 'CPU threads; the result does not depend on it', integer(1))
    .option('--max-shard-size <size>', 'longest file, as in 5GB', size)
    .addOption(new Option('--isa <name>', 'instruction set').hideHelp())
    .addOption(new Option('--resume', 'go on with an unfinished run (default)').conflicts('fresh'))
    .option('--fresh', 'forget an unfinished run')
    .option('--force', 'replace a model that is already there')
    .option('--json', 'print the report as JSON')
}

/** The options of a call among a command's flags. */
export function runOptions(flags: RunFlags): RunOptions {
  const { device, compute, gpuLayers, threads, isa } = flags
  return { device, compute, gpuLayers, threads, isa }
}
