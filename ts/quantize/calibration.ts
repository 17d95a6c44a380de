/** Calibration text to samples of tokens. */
import { textOf } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import { textList } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import { BUNDLED, type CalibrationFileForm, type CalibrationForm } from '../recipe/form.ts'
import { baseName } from '../recipe/read.ts'
import type { Tokenizer } from '../text/tokenizer.ts'

/** A calibration set. */
export interface CalibrationSet {
  /** Samples one after another. */
  readonly tokens: Uint32Array
  readonly samples: number
  readonly length: number
  /** Where the text came from, without folders. */
  readonly text: string
  /** The files by name and digest. */
  readonly files: readonly CalibrationFileForm[]
  /** What the reader should know. */
  readonly notes: readonly string[]
}

/** Size of a set. */
export interface CalibrationSize {
  readonly samples: number
  readonly length: number
}

/** What to calibrate on. */
export interface CalibrationSource {
  readonly given: QuantizeOptions['calibration']
  /** What the recipe says; it counts where nothing is given. */
  readonly recipe: CalibrationForm
  /** Folder of the recipe. */
  readonly folder: string | undefined
}

/** More characters than a token has on average in any script. */
const CHARACTERS_PER_TOKEN = 16

/** A text that is no file. */
const GIVEN = 'a given text'

/** Reads, joins and tokenizes the text: its first `samples × length` tokens, in order. */
export async function readCalibration(
  host: Host,
  tokenizer: Tokenizer,
  source: CalibrationSource,
  size: CalibrationSize,
): Promise<CalibrationSet> {
  const read = await readFiles(host, source)
  const name = read.map((file) => file.name.replace(BUNDLED, '')).join(', ')
  const text = read.map(({ bytes, place }) => textOf(bytes, 'dataset', place)).join('\n')
  const wanted = size.samples * size.length
  const tokens = encodeStart(tokenizer, text, wanted)
  const files = read.map((file) => ({ name: file.name, sha256: digestOf(host, file.bytes) }))
  const samples = Math.min(size.samples, Math.floor(tokens.length / size.length))
  if (samples === 0) {
    throw new LowbitError('dataset', `The text has ${tokens.length} tokens, less than a sample`, {
      place: name,
      remedy: `give more text or use samples of ${tokens.length} tokens`,
    })
  }
  return {
    tokens: tokens.slice(0, samples * size.length),
    samples,
    length: size.length,
    text: name,
    files,
    notes: [...fewer(samples, size), ...others(files, source)],
  }
}

function fewer(samples: number, wanted: CalibrationSize): readonly string[] {
  if (samples >= wanted.samples) return []
  return [`The calibration text gives ${samples} of ${wanted.samples} samples`]
}

/** A text that is given counts, and the bytes will be others. */
function others(
  files: readonly CalibrationFileForm[],
  { given, recipe }: CalibrationSource,
): readonly string[] {
  if (given === undefined) return []
  const own = new Set(files.map(({ sha256 }) => sha256))
  const missed = (recipe.files ?? [])
    .map(fileOf)
    .find((file) => file.sha256 !== undefined && !own.has(file.sha256))
  return missed ? [`The recipe was made with another ${missed.name}`] : []
}

/** A file that was read. */
interface Read {
  /** As a recipe names it. */
  readonly name: string
  readonly place: string
  readonly bytes: Uint8Array
}

async function readFiles(host: Host, source: CalibrationSource): Promise<readonly Read[]> {
  const { given } = source
  if (given === undefined) return readNamed(host, source)
  if (isText(given)) {
    return [{ name: GIVEN, place: GIVEN, bytes: new TextEncoder().encode(given.text) }]
  }
  const places = textList('calibration', given)
  if (places.length === 0) throw new LowbitError('option', 'calibration names no file')
  const read: Read[] = []
  for (const place of places) {
    refuseTables(place)
    read.push({ name: baseName(place), place, bytes: await host.readText(place) })
  }
  return read
}

/** The files of the recipe; the text that ships with the package otherwise. */
async function readNamed(host: Host, source: CalibrationSource): Promise<readonly Read[]> {
  const { files = [`${BUNDLED}calibration.txt`] } = source.recipe
  const read: Read[] = []
  for (const file of files.map(fileOf)) {
    const { name } = file
    const { bytes, place } = await readOne(host, name, source.folder)
    checkDigest(host, file, bytes, place)
    read.push({ name, place, bytes })
  }
  return read
}

async function readOne(
  host: Host,
  name: string,
  folder: string | undefined,
): Promise<Pick<Read, 'place' | 'bytes'>> {
  if (name === `${BUNDLED}calibration.txt`) {
    return { place: 'calibration.txt', bytes: await host.bundled('calibration.txt') }
  }
  refuseTables(name)
  const places = [...(folder === undefined ? [] : [folder + name]), name]
  for (const place of places) {
    try {
      return { place, bytes: await host.readText(place) }
    } catch (error) {
      if (!(error instanceof LowbitError) || error.code !== 'not-found') throw error
    }
  }
  throw new LowbitError('not-found', 'The text that the recipe names is not there', {
    place: name,
    remedy: 'name it with --calibration',
  })
}

/** `dataset` when a file is not the one that a recipe was made with. */
function checkDigest(
  host: Host,
  file: CalibrationFileForm,
  bytes: Uint8Array,
  place: string,
): void {
  if (file.sha256 === undefined || digestOf(host, bytes) === file.sha256) return
  throw new LowbitError('dataset', `It is not the ${file.name} that the recipe was made with`, {
    place,
    remedy: `give the one whose sha256 is ${file.sha256}, or take sha256 out of the recipe`,
  })
}

function digestOf(host: Host, bytes: Uint8Array): string {
  const hash = host.sha256()
  hash.update(bytes)
  return hash.hex()
}

function fileOf(file: string | CalibrationFileForm): CalibrationFileForm {
  return typeof file === 'string' ? { name: file } : file
}

function isText(given: NonNullable<QuantizeOptions['calibration']>): given is { text: string } {
  return 'text' in given && typeof given.text === 'string'
}

/** Their markup would be calibrated on as if it were text. */
function refuseTables(place: string): void {
  const table = /\.(jsonl?|csv|tsv|parquet|arrow|gz|zst|zip)$/i.exec(place)
  if (!table) return
  throw new LowbitError('unsupported', `Only plain text is read for calibration, not ${table[0]}`, {
    place,
    remedy: 'extract the text into a .txt file',
  })
}

/** Tokenizes no more of a long text than the set needs. */
function encodeStart(tokenizer: Tokenizer, text: string, wanted: number): Uint32Array {
  const cut = text.indexOf('\n', wanted * CHARACTERS_PER_TOKEN)
  const start = tokenizer.encode(cut < 0 ? text : text.slice(0, cut + 1), false)
  return start.length >= wanted || cut < 0 ? start : tokenizer.encode(text, false)
}
