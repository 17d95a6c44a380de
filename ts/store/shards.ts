/** Names of the files of a model in shards, before the index is checked as a whole. */
import { isObject } from '../bytes.ts'
import { checkName, readLimited, type Store } from './store.ts'

/** The index of a model in shards. */
export const INDEX = 'model.safetensors.index.json'

/** A model in one file. */
export const SINGLE = 'model.safetensors'

/** Longest index that is looked into. */
const INDEX_BYTES_MAX = 100_000_000

/** Plain names that the index gives; what is wrong with it is said when the model is opened. */
export async function shardsOf(store: Store): Promise<ReadonlySet<string>> {
  const names = new Set<string>()
  try {
    const bytes = await readLimited(store, INDEX, INDEX_BYTES_MAX)
    const index: unknown = JSON.parse(new TextDecoder().decode(bytes))
    const map = isObject(index) && isObject(index['weight_map']) ? index['weight_map'] : {}
    for (const file of Object.values(map)) if (isPlain(String(file))) names.add(String(file))
  } catch {
    return new Set()
  }
  return names
}

function isPlain(name: string): boolean {
  try {
    checkName(name)
    return true
  } catch {
    return false
  }
}
