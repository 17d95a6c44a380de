/** Places that are web addresses. */
import { type DataFile, remoteFile } from '../calibration/source.ts'
import { LowbitError } from '../error.ts'
import type { Source } from '../host.ts'
import { fetchStore } from './fetch.ts'

/** Whether a place is an address rather than a path. */
export function isAddress(place: string): boolean {
  return /^https?:\/\//i.test(place)
}

/** The folder of an address, and the file when one is named. */
export function splitAddress(place: string, base?: string): Source {
  const url = new URL(place, base)
  if (!/\.(safetensors|gguf)$/i.test(url.pathname)) return { store: fetchStore(url) }
  const [file = ''] = url.pathname.split('/').slice(-1)
  return { store: fetchStore(new URL('.', url)), file: decodeURIComponent(file) }
}

/** The file at an address, as calibration text. */
export function addressFiles(place: string | URL): readonly DataFile[] {
  const url = new URL(place)
  const file = decodeURIComponent(url.pathname.split('/').at(-1) ?? '')
  if (file === '') {
    throw new LowbitError('dataset', 'The address names no file', {
      place: url.href,
      remedy: 'name the file itself: a web server lists none',
    })
  }
  const folder = new URL('.', url)
  folder.search = url.search
  return [remoteFile(fetchStore(folder), file, file)]
}

/** Reads a whole file from an address. */
export async function readAddress(place: string | URL): Promise<Uint8Array> {
  let response: Response
  try {
    response = await fetch(place)
  } catch (cause) {
    throw new LowbitError('io', 'The server could not be reached', { place: `${place}`, cause })
  }
  if (response.ok) return new Uint8Array(await response.arrayBuffer())
  const code = response.status === 404 ? 'not-found' : 'io'
  throw new LowbitError(code, `The server answered ${response.status}`, { place: `${place}` })
}
