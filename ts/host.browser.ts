/** A browser: addresses, the texts of this package beside its scripts, nothing on a disk. */
import { LowbitError } from './error.ts'
import type { Host } from './host.ts'
import { sha256 } from './sha256.ts'
import { readAddress, splitAddress } from './store/address.ts'

/** The world as a page or a worker sees it; places are relative to the page. */
export const browserHost: Host = {
  threads: 1,
  source: async (place) => splitAddress(place, globalThis.location?.href),
  output: (place) =>
    Promise.reject(
      new LowbitError('output-path', 'A page cannot write to a folder', {
        place,
        remedy: 'give a store as out, such as memoryStore()',
      }),
    ),
  readText: (place) => readAddress(new URL(place, globalThis.location?.href)),
  bundled: (name) => readAddress(new URL(`../data/${name}`, import.meta.url)),
  sha256,
}
