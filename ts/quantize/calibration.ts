/** Calibration text to samples of tokens: any source that `calibrate` reads, or a set it made. */
import { renderedText, startOf } from '../calibration/pack.ts'
import { documentsOf } from '../calibration/read.ts'
import type { Document } from '../calibration/rows.ts'
import { readManifest, type SetFacts } from '../calibration/save.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import { BUNDLED, type CalibrationFileForm } from '../recipe/form.ts'
import { DEFAULTS } from '../recipe/resolve.ts'
import { openTemplate } from '../text/chat.ts'
import { needTokenizer, openTokenizer, type Tokenizer, tokenizerDigest } from '../text/tokenizer.ts'
import {
  calibrationFiles,
  type CalibrationInput,
  type Found,
  onlyFile,
  otherFiles,
} from './calibration-files.ts'

/** A calibration set. */
export interface CalibrationSet extends Cut {
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

/** Samples one after another. */
interface Cut extends CalibrationSize {
  readonly tokens: Uint32Array
}

/** More characters than a token has on average in any script. */
const CHARACTERS_PER_TOKEN = 16

/** Characters of a text file that are taken at a time. */
const PASSAGE = 1 << 16

/** How much to calibrate on: what the call says, then the recipe, then the one set that is named. */
export async function calibrationSize(
  host: Host,
  input: CalibrationInput,
  asked: { readonly samples?: number | undefined; readonly length?: number | undefined },
): Promise<CalibrationSize> {
  const { recipe } = input
  const samples = asked.samples ?? recipe.samples
  const length = asked.length ?? recipe.length
  if (samples !== undefined && length !== undefined) return { samples, length }
  const isNamed = input.given !== undefined || recipe.files !== undefined
  const only = isNamed ? onlyFile(await calibrationFiles(host, input)) : undefined
  const usual = { ...DEFAULTS, ...(only && (await manifestOf(only))) }
  return { samples: samples ?? usual.samples, length: length ?? usual.length }
}

/** The first `samples × length` tokens of the sources, in order; `dataset` when they have none. */
export async function readCalibration(
  host: Host,
  { store, place }: Pick<Checkpoint, 'store' | 'place'>,
  input: CalibrationInput,
  size: CalibrationSize,
): Promise<CalibrationSet> {
  const tokenizer = needTokenizer(await openTokenizer(store, host.within), place)
  const found = await calibrationFiles(host, input)
  const only = onlyFile(found)
  const set = only && (await manifestOf(only))
  const digest = set?.tokenizer && (await tokenizerDigest(store, host.sha256()))
  const isOwn = set !== undefined && digest === set.tokenizer && size.length <= set.length
  const cut =
    only && isOwn
      ? await tokensOfSet(only, { set, size })
      : await tokensOfTexts(found, { store, tokenizer, size })
  const few = cut.samples < size.samples
  return {
    ...cut,
    text: found.map(({ name }) => name.replace(BUNDLED, '')).join(', '),
    files: found.map(({ name, sha256 }) => (sha256 === undefined ? { name } : { name, sha256 })),
    notes: [
      ...(few ? [`The calibration text gives ${cut.samples} of ${size.samples} samples`] : []),
      ...otherFiles(found, input),
    ],
  }
}

async function manifestOf({ file }: Found): Promise<SetFacts | undefined> {
  return file.origin && readManifest(file.origin.store, file.origin.file)
}

/** Ids as they were chosen: no text is encoded, and so none is encoded otherwise. */
async function tokensOfSet(
  { file, sha256 }: Found,
  { set, size }: { set: SetFacts; size: CalibrationSize },
): Promise<Cut> {
  if (sha256 !== undefined && sha256 !== set.sha256) {
    throw new LowbitError('dataset', 'The set is not the one that its manifest describes', {
      place: file.place,
      remedy: 'make it again, or delete the manifest to read it as texts',
    })
  }
  const { length } = size
  const lists: Uint32Array[] = []
  for await (const { tokens, place } of documentsOf([file], { passage: PASSAGE })) {
    if (lists.length === size.samples) break
    if (!tokens || tokens.length < length) {
      throw new LowbitError('dataset', `A sample has ${tokens?.length ?? 0} tokens`, {
        place,
        remedy: 'make the set again',
      })
    }
    lists.push(tokens.subarray(0, length))
  }
  const tokens = new Uint32Array(lists.length * length)
  for (const [i, list] of lists.entries()) tokens.set(list, i * length)
  return { tokens, samples: lists.length, length }
}

/** Texts and rendered conversations, joined and cut. */
async function tokensOfTexts(
  found: readonly Found[],
  parts: { store: Checkpoint['store']; tokenizer: Tokenizer; size: CalibrationSize },
): Promise<Cut> {
  const { store, tokenizer, size } = parts
  const template = await openTemplate(store, tokenizer)
  const files = found.map(({ file }) => file)
  const tokens = await encodeStart(tokenizer, {
    stream: documentsOf(files, { passage: PASSAGE }),
    render: (document) => renderedText(document, template),
    count: size.samples * size.length,
  })
  const cut = samplesOf(tokens, startOf(tokenizer), size)
  if (cut.samples > 0) return cut
  throw new LowbitError('dataset', `The text has ${tokens.length} tokens, less than a sample`, {
    place: files.map(({ name }) => name).join(', '),
    remedy: `give more text or use samples of ${tokens.length} tokens`,
  })
}

/** What is encoded. */
interface Encoding {
  readonly stream: AsyncIterable<Document>
  readonly render: (document: Document) => string
  /** Tokens that are needed. */
  readonly count: number
}

/** Tokenizes no more of a long text than the set needs. */
async function encodeStart(
  tokenizer: Tokenizer,
  { stream, render, count }: Encoding,
): Promise<Uint32Array> {
  let text = ''
  let enough = count * CHARACTERS_PER_TOKEN
  for await (const document of stream) {
    const gap = text === '' || document.continues ? '' : '\n'
    text += gap + render(document)
    if (text.length < enough) continue
    const start = tokenizer.encode(text, false)
    if (start.length >= count) return start
    enough *= 2
  }
  return tokenizer.encode(text, false)
}

/** Cuts tokens into samples, each of which begins as a text does for this model. */
function samplesOf(tokens: Uint32Array, start: Uint32Array, size: CalibrationSize): Cut {
  const { length } = size
  const cut = new Uint32Array(size.samples * length)
  let samples = 0
  for (let at = 0; samples < size.samples; samples++) {
    const begun = start.every((id, i) => tokens[at + i] === id)
    const added = begun ? 0 : start.length
    const part = tokens.subarray(at, at + length - added)
    if (part.length + added < length) break
    if (added > 0) cut.set(start, samples * length)
    cut.set(part, samples * length + added)
    at += part.length
  }
  return { tokens: cut.slice(0, samples * length), samples, length }
}
