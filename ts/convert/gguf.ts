/** What a GGUF file holds beside tensors: the tokenizer's files, an imatrix, types by name. */
import type { Binding } from '../binding.ts'
import type { Json } from '../bytes.ts'
import type { Checkpoint } from '../checkpoint.ts'
import { readSentence } from '../encode/sentence.ts'
import { LowbitError } from '../error.ts'
import type { Host } from '../host.ts'
import type { ConvertOptions } from '../options.ts'
import { readOptional, type Store } from '../store/store.ts'

/** Mixes of types by name, from many bits to few; a test compares them with the core's. */
export const MIXES: readonly string[] = [
  'F32',
  'BF16',
  'F16',
  'Q8_0',
  'Q6_K',
  'Q5_K_M',
  'Q5_K_S',
  'Q5_1',
  'Q5_0',
  'Q4_K_M',
  'Q4_K_S',
  'Q4_1',
  'Q4_0',
  'IQ4_NL',
  'IQ4_XS',
  'MXFP4_MOE',
  'Q3_K_L',
  'Q3_K_M',
  'Q3_K_S',
  'Q2_K',
  'Q2_K_S',
  'TQ2_0',
  'TQ1_0',
]

/** Longest tokenizer.json; the longest known is about 35 MB. */
const TOKENIZER_BYTES_MAX = 128 << 20
const TEXT_BYTES_MAX = 16 << 20

/** Whether an output is one file of GGUF rather than a folder. */
export function isGgufFile(out: ConvertOptions['out']): boolean {
  return typeof out === 'string' && /\.gguf$/i.test(out)
}

/** The format: what is asked for, or what the output's name says. */
export function formatOf({ format, out }: Pick<ConvertOptions, 'format' | 'out'>): string {
  if (isGgufFile(out)) {
    if (format === undefined || format === 'gguf') return 'gguf'
    throw new LowbitError('option', `The output is a .gguf file and the format ${format}`, {
      remedy: 'name a folder, or format gguf',
    })
  }
  if (format !== undefined) return format
  throw new LowbitError('option', 'convert needs a format', {
    remedy: 'as in format: gptq, or float for plain floats, or name a .gguf file to write',
  })
}

/** Sends on those who ask `quantize` for GGUF, which has encoders of its own. */
export function refuseGguf(
  options: Readonly<Partial<Pick<ConvertOptions, 'format' | 'out' | 'scheme'>>>,
): void {
  const { format, out, scheme } = options
  const mix = MIXES.find((name) => name === scheme?.toUpperCase())
  if (format !== 'gguf' && mix === undefined && !(out && isGgufFile(out))) return
  throw new LowbitError('option', 'GGUF is written by convert', {
    remedy: `call convert(model, { out, format: 'gguf', scheme: '${mix ?? 'Q4_K_M'}' }); on the command line add --format gguf`,
  })
}

/** What the core needs beside the checkpoint. */
export async function ggufParts(
  host: Host,
  { binding, store, place }: Checkpoint,
  options: ConvertOptions,
): Promise<Json> {
  const { out, scheme = 'Q4_K_M', imatrix, tensorTypes = [] } = options
  const name = nameOf(place)
  const given = typeof out === 'string' && isGgufFile(out) ? nameOf(out) : undefined
  return {
    name,
    stem: given ?? `${name}-${scheme.toUpperCase()}`,
    tokenizer: await text(store, 'tokenizer.json', TOKENIZER_BYTES_MAX),
    tokenizerConfig: await text(store, 'tokenizer_config.json', TEXT_BYTES_MAX),
    template: await text(store, 'chat_template.jinja', TEXT_BYTES_MAX),
    tokenizerPre: options.tokenizerPre,
    pooling: await poolingOf(binding, store),
    tensorTypes,
    outputType: options.outputType,
    embeddingType: options.embeddingType,
    pure: options.pure ?? false,
    imatrix: imatrix === undefined ? undefined : await imatrixOf(host, imatrix),
  }
}

/** How states become vectors; what follows their pooling is in no file that is written here. */
async function poolingOf(binding: Binding, store: Store): Promise<readonly string[]> {
  const { pooling, steps } = await readSentence(binding, store)
  if (steps.every((step) => step === 'normalize')) return pooling
  throw new LowbitError('unsupported', 'A Dense module after the pooling has no place in GGUF', {
    place: `${store.place}/modules.json`,
    remedy: 'write a safetensors format',
  })
}

/** An importance matrix as the core takes it. */
export async function imatrixOf(host: Host, file: string): Promise<Json> {
  return { file, base64: base64(await host.readText(file)) }
}

async function text(store: Store, name: string, most: number): Promise<string | undefined> {
  const bytes = await readOptional(store, name, most)
  return bytes && new TextDecoder().decode(bytes)
}

/** A place without folders and without the ending of a file of tensors. */
function nameOf(place: string): string {
  const last = place.split(/[/\\]/).findLast((part) => part !== '') ?? 'model'
  return last.replace(/(-\d{5}-of-\d{5})?\.(gguf|safetensors)$/i, '')
}

/** In pieces, because a call takes so many arguments only. */
function base64(bytes: Uint8Array): string {
  const parts: string[] = []
  for (let i = 0; i < bytes.length; i += 0x8000) {
    parts.push(String.fromCharCode(...bytes.subarray(i, i + 0x8000)))
  }
  return btoa(parts.join(''))
}
