/** Node: folders on disk, addresses, the texts of this package. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { basename, dirname, extname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hubFiles } from './calibration/hub.ts'
import {
  type DataFile,
  isDatasetName,
  storeFile,
  storeFiles,
  streamFile,
} from './calibration/source.ts'
import { errorFrom, LowbitError } from './error.ts'
import type { Host, Source } from './host.ts'
import { fsStore } from './store/fs.ts'
import { fsOutput } from './store/output.ts'
import { addressFiles, isAddress, readAddress, splitAddress } from './store/address.ts'

/** Longest text that is read for calibration or evaluation. */
const TEXT_BYTES_MAX = 2 ** 30

/** The world as Node sees it. */
export const nodeHost: Host = {
  threads: availableParallelism(),
  source: (place) => (isAddress(place) ? Promise.resolve(splitAddress(place)) : fileSource(place)),
  output: (place, options) => fsOutput(place, options),
  readText: (place) => (isAddress(place) ? readAddress(place) : readFileLimited(place)),
  data: (place) => (isAddress(place) ? Promise.resolve(addressFiles(place)) : localData(place)),
  folder: (place) => ({ store: fsStore(dirname(resolve(place))), file: basename(place) }),
  bundled: (name) => readFileLimited(fileURLToPath(new URL(`../data/${name}`, import.meta.url))),
  memory: () => process.memoryUsage.rss(),
  sha256() {
    const hash = createHash('sha256')
    return { update: (bytes) => void hash.update(bytes), hex: () => hash.digest('hex') }
  },
}

async function fileSource(place: string): Promise<Source> {
  const path = resolve(place)
  try {
    if ((await stat(path)).isDirectory()) return { store: fsStore(path) }
  } catch (thrown) {
    const error = errorFrom(thrown, 'io', path)
    // `org/name` is how models are named on the hub.
    const isHubName = /^[\w.-]+\/[\w.-]+$/.test(place) && error.code === 'not-found'
    if (!isHubName) throw error
    throw new LowbitError('not-found', 'The folder does not exist', {
      place: path,
      remedy: `download it first, as with: hf download ${place} --local-dir ${basename(place)}`,
    })
  }
  refuseOther(path)
  return { store: fsStore(dirname(path)), file: basename(path) }
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
    const { HF_ENDPOINT: endpoint, HF_TOKEN: token } = process.env
    return hubFiles(place, { endpoint, token })
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
