/** Files to calibrate on: what the call names, what its recipe names, or the text that ships. */
import { type DataFile, dataFiles, sourceList } from '../calibration/source.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import type { QuantizeOptions } from '../options.ts'
import { BUNDLED, type CalibrationFileForm, type CalibrationForm } from '../recipe/form.ts'

/** What to calibrate on. */
export interface CalibrationInput {
  readonly given: QuantizeOptions['calibration']
  /** What the recipe says; it counts where nothing is given. */
  readonly recipe: CalibrationForm
  /** Folder of the recipe. */
  readonly folder: string | undefined
}

/** A file, and how a recipe names it. */
export interface Found {
  readonly file: DataFile
  readonly name: string
  /** Absent of what is read in part, as a server's tables. */
  readonly sha256: string | undefined
}

/** The one text that ships with the package. */
const TEXT = 'calibration.txt'

/** Every file with its digest; `dataset` when one is not what the recipe was made with. */
export async function calibrationFiles(
  host: Host,
  { given, recipe, folder }: CalibrationInput,
): Promise<readonly Found[]> {
  if (given !== undefined) {
    const files = await dataFiles(host, sourceList(given))
    return found(host, files, {})
  }
  const all: Found[] = []
  for (const form of (recipe.files ?? [BUNDLED + TEXT]).map(fileOf)) {
    all.push(...(await found(host, await named(host, form.name, folder), form)))
  }
  return all
}

/** A text that is given counts, and the bytes will be others than those of the recipe. */
export function otherFiles(
  files: readonly Found[],
  { given, recipe }: CalibrationInput,
): readonly string[] {
  if (given === undefined) return []
  const own = new Set(files.map(({ sha256 }) => sha256))
  const missed = (recipe.files ?? [])
    .map(fileOf)
    .find((file) => file.sha256 !== undefined && !own.has(file.sha256))
  return missed ? [`The recipe was made with another ${missed.name}`] : []
}

/** The one file, where there is one: only a set that stands alone gives its ids. */
export function onlyFile(files: readonly Found[]): Found | undefined {
  return files.length === 1 ? files[0] : undefined
}

async function found(
  host: Host,
  files: readonly DataFile[],
  form: Partial<CalibrationFileForm>,
): Promise<readonly Found[]> {
  const all: Found[] = []
  for (const file of files) {
    const isCheap = file.ranges !== undefined && file.version === undefined
    const sha256 = isCheap || form.sha256 !== undefined ? await digest(host, file) : undefined
    if (form.sha256 !== undefined && sha256 !== form.sha256) {
      throw new LowbitError('dataset', `It is not the ${form.name} that the recipe was made with`, {
        place: file.place,
        remedy: `give the one whose sha256 is ${form.sha256}, or take sha256 out of the recipe`,
      })
    }
    all.push({ file, name: form.name ?? file.name, sha256 })
  }
  return all
}

async function digest(host: Host, file: DataFile): Promise<string> {
  const hash = host.sha256()
  for await (const piece of file.pieces()) hash.update(piece)
  return hash.hex()
}

/** A file that a recipe names: beside the recipe, or as a call would name it. */
async function named(
  host: Host,
  name: string,
  folder: string | undefined,
): Promise<readonly DataFile[]> {
  if (name === BUNDLED + TEXT) {
    return dataFiles(host, [{ name: TEXT, bytes: await host.bundled(TEXT) }])
  }
  for (const place of folder === undefined ? [name] : [folder + name, name]) {
    try {
      return await dataFiles(host, [place])
    } catch (error) {
      if (!(error instanceof LowbitError) || error.code !== 'not-found') throw error
    }
  }
  throw new LowbitError('not-found', 'The text that the recipe names is not there', {
    place: name,
    remedy: 'name it with --calibration',
  })
}

function fileOf(file: string | CalibrationFileForm): CalibrationFileForm {
  return typeof file === 'string' ? { name: file } : file
}
