/** Calibration text to samples of tokens. */
import { textOf } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import { textList } from '../option-rules.ts'
import type { QuantizeOptions } from '../options.ts'
import type { Tokenizer } from '../text/tokenizer.ts'

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

/** Reads, joins and tokenizes the text: its first `samples × length` tokens, in order. */
export async function readCalibration(
  host: Host,
  tokenizer: Tokenizer,
  given: QuantizeOptions['calibration'],
  size: CalibrationSize,
): Promise<CalibrationSet> {
  const { name, text } = await readTexts(host, given)
  const wanted = size.samples * size.length
  const tokens = encodeStart(tokenizer, text, wanted)
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
  }
}

async function readTexts(
  host: Host,
  given: QuantizeOptions['calibration'],
): Promise<{ name: string; text: string }> {
  if (given === undefined) {
    const name = 'calibration.txt'
    return { name, text: textOf(await host.bundled(name), 'dataset', name) }
  }
  if (isText(given)) return { name: 'a given text', text: given.text }
  const places = textList('calibration', given)
  if (places.length === 0) throw new LowbitError('option', 'calibration names no file')
  const texts: string[] = []
  for (const place of places) {
    refuseTables(place)
    texts.push(textOf(await host.readText(place), 'dataset', place))
  }
  return { name: places.map(baseName).join(', '), text: texts.join('\n') }
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

function baseName(place: string): string {
  return place.split(/[/\\]/).at(-1) ?? place
}
