/** Files that a command line names beside its model. */
import type { Command } from 'commander'
import { textOf } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import { nodeHost } from '../host.node.ts'
import type { LoadOptions } from '../options.ts'
import { type Context, MODEL, type RunFlags, runOptions } from './command.ts'

/** Flags of every command that takes texts. */
export interface TextFlags extends RunFlags {
  readonly file?: string
}

/** Adds the model and the texts to a command. */
export function addTexts(command: Command): Command {
  return command
    .argument('<model>', MODEL)
    .argument('[text...]', 'texts')
    .option('--file <file>', 'a file with a text on each line; - for standard input')
}

/** Where texts are taken as a whole: the CPU, unless another device is asked for. */
export function onCpu(flags: TextFlags): LoadOptions {
  return { ...runOptions(flags), device: flags.device ?? 'cpu' }
}

/** Reads a text file or address; `dataset` when it is not UTF-8. */
export async function readTextFile(place: string): Promise<string> {
  return textOf(await nodeHost.readText(place), 'dataset', place)
}

/** The lines of a file, or of standard input under `-`; none without a file. */
async function linesOf(context: Context, place: string | undefined): Promise<string[]> {
  if (place === undefined) return []
  if (place !== '-') return (await readTextFile(place)).split(/\r?\n/).filter((line) => line !== '')
  const lines: string[] = []
  for await (const line of context.lines()) if (line !== '') lines.push(line)
  return lines
}

/** Texts of the command line and of a file; `option` when there is none. */
export async function textsOf(
  context: Context,
  given: readonly string[],
  file: string | undefined,
): Promise<readonly string[]> {
  const texts = [...given, ...(await linesOf(context, file))]
  if (texts.length > 0) return texts
  throw new LowbitError('option', 'There is no text', { remedy: 'name some, or use --file' })
}
