/** A browser: addresses, the texts of this package beside its scripts, nothing on a disk. */
import { hubFiles } from './calibration/hub.ts'
import { isDatasetName } from './calibration/source.ts'
import { LowbitError } from './error.ts'
import type { Host } from './host.ts'
import { sha256 } from './sha256.ts'
import { addressFiles, readAddress, splitAddress } from './store/address.ts'

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
  data: async (place) =>
    isDatasetName(place)
      ? hubFiles(place)
      : addressFiles(new URL(place, globalThis.location?.href)),
  folder(place) {
    throw new LowbitError('output-path', 'A page cannot write a file', {
      place,
      remedy: 'give a store as out, such as memoryStore()',
    })
  },
  bundled: (name) => readAddress(new URL(`../data/${name}`, import.meta.url)),
  sha256,
}
