/** Files that a command line names beside its model. */
import { textOf } from '../bytes.ts'
import { nodeHost } from '../host.node.ts'

/** Reads a text file or address; `dataset` when it is not UTF-8. */
export async function readTextFile(place: string): Promise<string> {
  return textOf(await nodeHost.readText(place), 'dataset', place)
}
