/** A browser: addresses, the texts of this package beside its scripts, nothing on a disk. */
import { hubFiles } from './calibration/hub.ts'
import { isDatasetName } from './calibration/source.ts'
import { LowbitError } from './error.ts'
import type { Host, Source } from './host.ts'
import { endpointOf, type Hub, hubHeaders } from './hub/access.ts'
import { type HubName, hubName, hubPage, hubText } from './hub/name.ts'
import { sha256 } from './sha256.ts'
import { addressFiles, isAddress, readAddress, splitAddress } from './store/address.ts'
import { fetchStore } from './store/fetch.ts'

/** The world as a page or a worker sees it; places are relative to the page. */
export const browserHost = (hub: Hub = {}): Host => ({
  threads: 1,
  source: (place, { signal } = {}) => sourceOf(hub, place, signal),
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
      ? hubFiles(place, hub)
      : addressFiles(new URL(place, globalThis.location?.href)),
  folder(place) {
    throw new LowbitError('output-path', 'A page cannot write a file', {
      place,
      remedy: 'give a store as out, such as memoryStore()',
    })
  },
  bundled: (name) => readAddress(new URL(`../data/${name}`, import.meta.url)),
  sha256,
})

/** An address, or a model of the hub unless the site has a folder of that name. */
async function sourceOf(hub: Hub, place: string, signal: AbortSignal | undefined): Promise<Source> {
  const base = globalThis.location?.href
  const name = isAddress(place) ? hubPage(place, endpointOf(hub)) : hubName(place)
  if (!name || (!isAddress(place) && (await siteHas(place, base)))) return splitAddress(place, base)
  return hubSource(hub, name, signal)
}

/**
 * A model of the hub, read by ranges where it is: the hub's library does not bundle for pages, and
 * what it would list is asked for by name.
 */
function hubSource(hub: Hub, name: HubName, signal: AbortSignal | undefined): Source {
  const { repo, revision, file, tag } = name
  if (tag !== undefined) {
    throw new LowbitError('unsupported', 'A page does not look through the files of a model', {
      place: hubText(name),
      remedy: `name the file, as ${repo}/<file>.gguf`,
    })
  }
  const folder = `${endpointOf(hub)}/${repo}/resolve/${encodeURIComponent(revision)}/`
  const options = { headers: hubHeaders(hub), ...(signal ? { signal } : {}) }
  const store = fetchStore(folder, options)
  return file === undefined ? { store } : { store, file }
}

/** Whether a relative place is a model's folder or file on the page's own site. */
async function siteHas(place: string, base: string | undefined): Promise<boolean> {
  if (base === undefined || !URL.canParse(place, base)) return false
  const { store, file = 'config.json' } = splitAddress(place, base)
  const url = `${store.place}/${file}`
  const response = await fetch(url, { method: 'HEAD' }).catch(() => undefined)
  // A site of one page answers with that page whatever is asked for.
  return Boolean(response?.ok) && !/html/.test(response?.headers.get('content-type') ?? '')
}
