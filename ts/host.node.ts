/** Node: folders on disk, addresses, the texts of this package. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { basename, dirname, extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Script } from 'node:vm'
import { hubFiles } from './calibration/hub.ts'
import {
  type DataFile,
  isDatasetName,
  storeFile,
  storeFiles,
  streamFile,
} from './calibration/source.ts'
import { errorFrom, LowbitError } from './error.ts'
import type { Host, Reading, Source } from './host.ts'
import { endpointOf } from './hub/access.ts'
import { cachedSource, knownSource } from './hub/cache.ts'
import { hubSettings } from './hub/environment.ts'
import { type HubName, hubName, hubPage, hubText } from './hub/name.ts'
import { remoteSource } from './hub/repository.ts'
import { fsStore } from './store/fs.ts'
import { fsOutput } from './store/output.ts'
import { addressFiles, isAddress, readAddress, splitAddress } from './store/address.ts'

/** Longest text that is read for calibration or evaluation. */
const TEXT_BYTES_MAX = 2 ** 30

/** The world as Node sees it. */
export const nodeHost: Host = {
  threads: availableParallelism(),
  source: (place, reading = {}) =>
    isAddress(place) ? addressSource(place, reading) : fileSource(place, reading),
  output: (place, options) => fsOutput(place, options),
  readText: (place) => (isAddress(place) ? readAddress(place) : readFileLimited(place)),
  data: (place) => (isAddress(place) ? Promise.resolve(addressFiles(place)) : localData(place)),
  folder: (place) => ({ store: fsStore(dirname(resolve(place))), file: basename(place) }),
  bundled: (name) => readFileLimited(fileURLToPath(new URL(`../data/${name}`, import.meta.url))),
  within: (milliseconds, run) => runWithin(milliseconds, run),
  memory: () => process.memoryUsage.rss(),
  sha256() {
    const hash = createHash('sha256')
    return { update: (bytes) => void hash.update(bytes), hex: () => hash.digest('hex') }
  },
}

/** Name under which a script finds what it is to run. */
const RUN = Symbol.for('lowbit.within')
const CALL = new Script("globalThis[Symbol.for('lowbit.within')]()")

/** A script can be stopped anywhere, inside a regular expression too. */
function runWithin<T>(milliseconds: number, run: () => T): T {
  const found: { value?: T } = {}
  Reflect.set(globalThis, RUN, () => {
    found.value = run()
  })
  try {
    CALL.runInThisContext({ timeout: Math.ceil(milliseconds) })
  } finally {
    Reflect.deleteProperty(globalThis, RUN)
  }
  if (!('value' in found)) throw new LowbitError('internal', 'Nothing came of it')
  return found.value
}

async function addressSource(place: string, reading: Reading): Promise<Source> {
  const name = hubPage(place, endpointOf(await hubSettings()))
  return name ? hubSource(name, reading) : splitAddress(place)
}

async function fileSource(place: string, reading: Reading): Promise<Source> {
  const path = resolve(place)
  try {
    if ((await stat(path)).isDirectory()) return { store: fsStore(path) }
  } catch (thrown) {
    const error = errorFrom(thrown, 'io', path)
    const name = hubName(place)
    if (!name || error.code !== 'not-found') throw error
    return hubSource(name, reading)
  }
  refuseOther(path)
  return { store: fsStore(dirname(path)), file: basename(path) }
}

/** A model of the hub out of the cache, or where it is when only its headers are wanted. */
async function hubSource(name: HubName, reading: Reading): Promise<Source> {
  const settings = await hubSettings()
  if (!reading.headers || settings.offline) return cachedSource(settings, name, reading)
  try {
    const { signal } = reading
    return await remoteSource(settings, name, { name: hubText(name), signal })
  } catch (thrown) {
    const error = errorFrom(thrown, 'io', hubText(name))
    const known = error.code === 'io' ? await knownSource(settings, name) : undefined
    if (known) return known
    throw error
  }
}

async function localData(place: string): Promise<readonly DataFile[]> {
  if (place === '-') return [streamFile('standard input', process.stdin)]
  const path = resolve(place)
  try {
    const found = await stat(path)
    if (found.isDirectory()) return await storeFiles(fsStore(path), `${basename(path)}/`)
    // A pipe, as a shell makes it of a command's output, has neither length nor ranges.
    if (!found.isFile()) return [streamFile(basename(path), createReadStream(path))]
    return [storeFile(fsStore(dirname(path)), basename(path))]
  } catch (thrown) {
    const error = errorFrom(thrown, 'io', path)
    if (error.code !== 'not-found' || !isDatasetName(place)) throw error
    return hubFiles(place, await hubSettings())
  }
}

/** Pickles are never opened: opening one runs it. */
function refuseOther(path: string): void {
  const kind = extname(path).toLowerCase()
  if (['.bin', '.pt', '.pth', '.ckpt', '.pkl'].includes(kind)) {
    throw new LowbitError('not-a-model', 'The file is a pickle, which is never opened', {
      place: path,
      remedy: 'save the model as safetensors',
    })
  }
}

async function readFileLimited(place: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(place)
    if (size > TEXT_BYTES_MAX) {
      throw new LowbitError(
        'dataset',
        `${size} bytes are more than the limit of ${TEXT_BYTES_MAX}`,
        {
          place,
        },
      )
    }
    return await readFile(place)
  } catch (error) {
    throw errorFrom(error, 'io', place)
  }
}
