/** Files that a command line names beside its model. */
import { textOf } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import { nodeHost } from '../host.node.ts'
import type { Context } from './command.ts'

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
