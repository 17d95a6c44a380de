/** Calibration text to samples of tokens: any source that `calibrate` reads, or a set it made. */
import { renderedText, startOf } from '../calibration/pack.ts'
import { documentsOf, type FileFacts } from '../calibration/read.ts'
import type { Document } from '../calibration/rows.ts'
import { readManifest, type SetFacts } from '../calibration/save.ts'
import { SET_SIZE } from '../calibration/settings.ts'
import { type DataFile, dataFiles, sourceList } from '../calibration/source.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import type { QuantizeOptions } from '../options.ts'
import { openTemplate } from '../text/chat.ts'
import { needTokenizer, openTokenizer, type Tokenizer, tokenizerDigest } from '../text/tokenizer.ts'

/** A calibration set. */
export interface CalibrationSet {
  /** Samples one after another. */
  readonly tokens: Uint32Array
  readonly samples: number
  readonly length: number
  /** Where the text came from, without folders. */
  readonly text: string
}

/** Size of a set. */
export interface CalibrationSize {
  readonly samples: number
  readonly length: number
}

/** More characters than a token has on average in any script. */
const CHARACTERS_PER_TOKEN = 16

/** Characters of a text file that are taken at a time. */
const PASSAGE = 1 << 16

/** The size that was asked for; otherwise that of the one set that was named, or the usual one. */
export async function calibrationSize(
  host: Host,
  { calibration, samples, length }: QuantizeOptions,
): Promise<CalibrationSize> {
  const named = samples !== undefined && length !== undefined
  const set = named ? undefined : await onlySet(host, calibration)
  const usual = { ...SET_SIZE, ...set }
  return { samples: samples ?? usual.samples, length: length ?? usual.length }
}

async function onlySet(
  host: Host,
  calibration: QuantizeOptions['calibration'],
): Promise<SetFacts | undefined> {
  const [only, more] = calibration === undefined ? [] : await filesOf(host, calibration)
  return only && !more ? manifestOf(only) : undefined
}

/** The first `samples × length` tokens of the sources, in order; `dataset` when they have none. */
export async function readCalibration(
  host: Host,
  { store, place }: Pick<Checkpoint, 'store' | 'place'>,
  given: QuantizeOptions['calibration'],
  size: CalibrationSize,
): Promise<CalibrationSet> {
  const tokenizer = needTokenizer(await openTokenizer(store), place)
  const template = await openTemplate(store, tokenizer)
  const files = await filesOf(host, given)
  const text = files.map(({ name }) => name).join(', ')
  const [only, more] = files
  const set = only && !more ? await manifestOf(only) : undefined
  const digest = set?.tokenizer && (await tokenizerDigest(store, host.sha256()))
  if (only && set && digest === set.tokenizer && size.length <= set.length) {
    return { ...(await tokensOfSet(host, only, { set, size })), text }
  }
  const reading = { passage: PASSAGE }
  const stream = documentsOf(files, reading)
  const render = (document: Document): string => renderedText(document, template)
  const tokens = await encodeStart(tokenizer, { stream, render, wanted: size })
  const cut = samplesOf(tokens, startOf(tokenizer), size)
  if (cut.samples === 0) throw tooLittle(tokens.length, text)
  return { ...cut, text }
}

async function filesOf(
  host: Host,
  given: QuantizeOptions['calibration'],
): Promise<readonly DataFile[]> {
  if (given !== undefined) return dataFiles(host, sourceList(given))
  const name = 'calibration.txt'
  return dataFiles(host, [{ name, bytes: await host.bundled(name) }])
}

async function manifestOf({ origin }: DataFile): Promise<SetFacts | undefined> {
  return origin && readManifest(origin.store, origin.file)
}

/** Ids as they were chosen: no text is encoded, and so none is encoded otherwise. */
async function tokensOfSet(
  host: Host,
  file: DataFile,
  { set, size }: { set: SetFacts; size: CalibrationSize },
): Promise<Omit<CalibrationSet, 'text'>> {
  const { length } = size
  const lists: Uint32Array[] = []
  let facts: FileFacts | undefined
  const reading = { passage: PASSAGE, sha256: () => host.sha256() }
  for await (const { tokens, place } of documentsOf([file], reading, (read) => (facts = read))) {
    if (!tokens || tokens.length < length) {
      throw new LowbitError('dataset', `A sample has ${tokens?.length ?? 0} tokens`, {
        place,
        remedy: 'make the set again',
      })
    }
    if (lists.length < size.samples) lists.push(tokens.subarray(0, length))
  }
  if (facts?.sha256 !== set.sha256) {
    throw new LowbitError('dataset', 'The set is not the one that its manifest describes', {
      place: file.place,
      remedy: 'make it again, or delete the manifest to read it as texts',
    })
  }
  const tokens = new Uint32Array(lists.length * length)
  for (const [i, list] of lists.entries()) tokens.set(list, i * length)
  return { tokens, samples: lists.length, length }
}

/** Tokenizes no more of a long text than the set needs. */
async function encodeStart(
  tokenizer: Tokenizer,
  {
    stream,
    render,
    wanted,
  }: {
    stream: AsyncIterable<Document>
    render: (document: Document) => string
    wanted: CalibrationSize
  },
): Promise<Uint32Array> {
  const count = wanted.samples * wanted.length
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
function samplesOf(
  tokens: Uint32Array,
  start: Uint32Array,
  size: CalibrationSize,
): Omit<CalibrationSet, 'text'> {
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

function tooLittle(tokens: number, place: string): LowbitError {
  return new LowbitError('dataset', `The text has ${tokens} tokens, less than a sample`, {
    place,
    remedy: `give more text or use samples of ${tokens} tokens`,
  })
}
