/**
 * Tokenizers of the kinds that families have, made of two small vocabularies: one of merges over
 * letters that stand for bytes, one of SentencePiece's pieces. And texts that tell them apart.
 */
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isObject, type Json } from '../ts/bytes.ts'
import { NOVELS, ROOT } from './helpers.ts'

/** A tokenizer's files. */
export interface Files {
  readonly tokenizer: Json
  readonly config: Json
}

/** What tokenizers disagree about. */
export const NASTY: readonly string[] = [
  "It was the best of times; we\u2019ll see, WE'LL SEE, I'm, they'VE!",
  '  leading,   inner\t\ttabs \u00a0and\u3000wide   ',
  'line\nline\r\n\n\n  indented\n \n\t\n',
  '1 12 123 1234567.89 ½ ² ٣٤ ⅷ 1,000,000',
  'naïve café cafe\u0301 Ångström A\u030Angstro\u0308m ﬁ Straße İstanbul ΣΊΣΥΦΟΣ',
  '中文和日本語のテキスト한국어 小さな猫，一只大狗。',
  'עברית العربية हिन्दी ไทย',
  '🙂👩‍👩‍👧🏳️‍🌈 👍🏽 ✨',
  'for (let i = 0; i < n; i++) {\n\tsum += a[i] ?? 0 // #!/usr/bin/env\r\n}',
  'https://example.org/a_b-c?d=%20&e=f#g <b>bold</b> C:\\dir\\file.txt',
  'HTMLParser camelCase snake_case SCREAMING_CASE x² e=mc²',
  '__init__ --- ... !!!??? ((([[[{{{ ~~~',
  '\u200b\ufeff\u00ad zero \u202eright\u202c',
  'a',
  ' ',
]

/** The tokenizers by family. */
export async function tokenizers(): Promise<ReadonlyMap<string, Files>> {
  const base = await json(join(NOVELS, 'tokenizer.json'))
  const config = await json(join(NOVELS, 'tokenizer_config.json'))
  const bert = await json(join(ROOT, 'models/tiny-bert/tokenizer.json'))
  const pieces = await readPieces()
  const bytes = [...BYTES].map(([name, change]) => {
    const merged = { ...base, ...change, model: { ...part(base, 'model'), ...change.model } }
    return [name, { tokenizer: merged, config: { ...config, ...change.config } }] as const
  })
  return new Map<string, Files>([
    ...bytes,
    ['llama-2', { tokenizer: merges(pieces, true), config: ENDS }],
    ['gemma', { tokenizer: merges(pieces, false), config: ENDS }],
    ['t5', { tokenizer: unigram(pieces), config: ENDS }],
    ['bert', { tokenizer: bert, config: {} }],
  ])
}

/** Writes the model of the tests with another tokenizer. */
export async function dress(folder: string, { tokenizer, config }: Files): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const name of ['config.json', 'model.safetensors']) {
    await symlink(join(NOVELS, name), join(folder, name))
  }
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer))
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
}

interface Change {
  readonly normalizer?: Json
  readonly pre_tokenizer?: Json
  readonly post_processor?: Json
  readonly model?: Json
  readonly config?: Json
}

const LETTERS = String.raw`[^\r\n\p{L}\p{N}]?`
const UPPER = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
const LOWER = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
const REST = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`
const SHORT = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`
const MARKS = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*`
const MARKS_AND_SLASHES = String.raw` ?[^\s\p{L}\p{N}]+[\r\n/]*`
const LLAMA3 = String.raw`${SHORT}|${LETTERS}\p{L}+|\p{N}{1,3}|${MARKS}|${REST}`
const QWEN2 = String.raw`${SHORT}|${LETTERS}\p{L}+|\p{N}|${MARKS}|${REST}`
const TEKKEN = String.raw`${LETTERS}${UPPER}*${LOWER}+|${LETTERS}${UPPER}+${LOWER}*|\p{N}|${MARKS_AND_SLASHES}|${REST}`
const GPT_4O = String.raw`${LETTERS}${UPPER}*${LOWER}+${SHORT}?|${LETTERS}${UPPER}+${LOWER}*${SHORT}?|\p{N}{1,3}|${MARKS_AND_SLASHES}|${REST}`

const BYTES: ReadonlyMap<string, Change> = new Map([
  ['qwen2', { normalizer: { type: 'NFC' }, pre_tokenizer: split(QWEN2) }],
  [
    'llama-3',
    {
      pre_tokenizer: split(LLAMA3),
      post_processor: template('<|im_start|>', 1),
      model: { ignore_merges: true },
      config: { bos_token: '<|im_start|>' },
    },
  ],
  [
    'tekken',
    {
      pre_tokenizer: split(TEKKEN),
      post_processor: template('<|im_start|>', 1),
      model: { ignore_merges: true },
      config: { bos_token: '<|im_start|>' },
    },
  ],
  ['gpt-4o', { pre_tokenizer: split(GPT_4O) }],
  ['gpt-2', { pre_tokenizer: byteLevel(true) }],
  [
    'smollm',
    { pre_tokenizer: sequence({ type: 'Digits', individual_digits: true }, byteLevel(true)) },
  ],
])

function byteLevel(own: boolean): Json {
  return { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: own }
}

function sequence(...pretokenizers: readonly Json[]): Json {
  return { type: 'Sequence', pretokenizers }
}

function split(expression: string): Json {
  const pattern = { Regex: expression }
  return sequence({ type: 'Split', pattern, behavior: 'Isolated', invert: false }, byteLevel(false))
}

function template(token: string, id: number): Json {
  const first = { SpecialToken: { id: token, type_id: 0 } }
  const text = (name: string, kind: number): Json => ({ Sequence: { id: name, type_id: kind } })
  return {
    type: 'TemplateProcessing',
    single: [first, text('A', 0)],
    pair: [first, text('A', 0), text('B', 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  }
}

interface Pieces {
  readonly tokens: readonly string[]
  readonly scores: readonly number[]
  readonly types: readonly number[]
}

const ENDS: Json = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' }
const SPECIAL = ['<unk>', '<s>', '</s>']

/** SentencePiece's merges as Llama 2 has them, with a space before the text, and as Gemma does. */
function merges({ tokens, scores, types }: Pieces, prefix: boolean): Json {
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const normal = (token: string): boolean => types[ids.get(token) ?? 0] === 1
  const found = tokens.filter(normal).flatMap((token) => {
    const letters = Array.from(token)
    const cuts = letters.slice(1).map((_, i) => {
      return [letters.slice(0, i + 1).join(''), letters.slice(i + 1).join('')] as const
    })
    return cuts.filter((pair) => pair.every((one) => ids.has(one) && normal(one)))
  })
  const score = (pair: readonly [string, string]): number =>
    scores[ids.get(pair.join('')) ?? 0] ?? 0
  const space = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  const back = { type: 'Replace', pattern: { String: '▁' }, content: ' ' }
  const prepend = { type: 'Prepend', prepend: '▁' }
  const decoders = [back, { type: 'ByteFallback' }, { type: 'Fuse' }]
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 }
  return {
    added_tokens: special(),
    normalizer: prefix ? { type: 'Sequence', normalizers: [prepend, space] } : space,
    pre_tokenizer: null,
    post_processor: template('<s>', 1),
    decoder: { type: 'Sequence', decoders: prefix ? [...decoders, strip] : decoders },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(ids),
      merges: found.toSorted((a, b) => score(b) - score(a)),
    },
  }
}

/** The same pieces as T5 has them, weighed by their frequency. */
function unigram({ tokens, scores, types }: Pieces): Json {
  const metaspace = { type: 'Metaspace', replacement: '▁', add_prefix_space: true }
  const end = { SpecialToken: { id: '</s>', type_id: 0 } }
  const text = (name: string): Json => ({ Sequence: { id: name, type_id: 0 } })
  return {
    added_tokens: special(),
    normalizer: null,
    pre_tokenizer: sequence({ type: 'WhitespaceSplit' }, metaspace),
    post_processor: {
      type: 'TemplateProcessing',
      single: [text('A'), end],
      pair: [text('A'), end, text('B'), end],
      special_tokens: { '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] } },
    },
    decoder: metaspace,
    model: {
      type: 'Unigram',
      unk_id: 0,
      // Bytes are no pieces here.
      vocab: tokens.map((token, id) => [
        types[id] === 6 ? `byte${id}` : token,
        types[id] === 1 ? -3 - Math.abs(scores[id] ?? 0) / 100 : 0,
      ]),
    },
  }
}

function special(): Json[] {
  return SPECIAL.map((content, id) => ({ id, content, special: true, normalized: false }))
}

async function readPieces(): Promise<Pieces> {
  return JSON.parse(await readFile(join(ROOT, 'test/fixtures/vectors/pieces.json'), 'utf8'))
}

async function json(path: string): Promise<Json> {
  return JSON.parse(await readFile(path, 'utf8'))
}

function part(of: Json, key: string): Json {
  const found = of[key]
  return isObject(found) ? found : {}
}
