/** Writes GGUF files for tests, with nothing of the package's own writer. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isObject, type Json } from '../ts/bytes.ts'

/** Ids of the value types. */
const TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const

/** A value with its type. */
export type Value =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly string: string }
  | { readonly strings: readonly string[] }
  | { readonly f32s: readonly number[] }
  | { readonly i32s: readonly number[] }

/** A tensor; the shape is outermost first. */
export interface Tensor {
  readonly name: string
  readonly type: number
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** Type ids of tensors. */
export const F32 = 0
export const Q8_0 = 8
export const BF16 = 30

/** A number of 32 or 64 bits, little-endian. */
export function number(bytes: 4 | 8, value: number | bigint): Buffer {
  const out = Buffer.alloc(bytes)
  if (bytes === 4) out.writeUInt32LE(Number(value) >>> 0)
  else out.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)))
  return out
}

/** A string with its length. */
export function string(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([number(8, bytes.length), bytes])
}

function float(value: number): Buffer {
  const out = Buffer.alloc(4)
  out.writeFloatLE(value)
  return out
}

function list(type: number, parts: readonly Buffer[]): Buffer {
  return Buffer.concat([number(4, TYPES.array), number(4, type), number(8, parts.length), ...parts])
}

function valueBytes(value: Value): Buffer {
  if ('u32' in value) return Buffer.concat([number(4, TYPES.u32), number(4, value.u32)])
  if ('f32' in value) return Buffer.concat([number(4, TYPES.f32), float(value.f32)])
  if ('bool' in value) return Buffer.concat([number(4, TYPES.bool), Buffer.of(value.bool ? 1 : 0)])
  if ('string' in value) return Buffer.concat([number(4, TYPES.string), string(value.string)])
  if ('strings' in value) return list(TYPES.string, value.strings.map(string))
  if ('f32s' in value) return list(TYPES.f32, value.f32s.map(float))
  return list(
    TYPES.i32,
    value.i32s.map((i) => number(4, i)),
  )
}

/** A whole file. */
export function gguf(
  metadata: Readonly<Record<string, Value>>,
  tensors: readonly Tensor[],
): Buffer {
  const keys = Object.entries(metadata)
  const head = [
    Buffer.from('GGUF'),
    number(4, 3),
    number(8, tensors.length),
    number(8, keys.length),
  ]
  for (const [key, value] of keys) head.push(string(key), valueBytes(value))
  const data: Buffer[] = []
  let offset = 0
  for (const tensor of tensors) {
    const dims = tensor.shape.toReversed().map((dim) => number(8, dim))
    head.push(string(tensor.name), number(4, dims.length), ...dims)
    head.push(number(4, tensor.type), number(8, offset))
    data.push(padded(Buffer.from(tensor.data)))
    offset += data.at(-1)?.length ?? 0
  }
  return Buffer.concat([padded(Buffer.concat(head)), ...data])
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)])
}

/** Names of Qwen 3 in GGUF. */
const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^model\.embed_tokens\./, 'token_embd.'],
  [/^model\.norm\./, 'output_norm.'],
  [/^model\.layers\.(\d+)\./, 'blk.$1.'],
  [/\.input_layernorm\./, '.attn_norm.'],
  [/\.post_attention_layernorm\./, '.ffn_norm.'],
  [/\.self_attn\.o_proj\./, '.attn_output.'],
  [/\.self_attn\.([qkv])_(proj|norm)\./, '.attn_$1_$2.'],
  [/_proj\./, '.'],
  [/\.mlp\.(\w+)\./, '.ffn_$1.'],
]

/** The tensors of a Qwen 3 in one safetensors file, matrices as `type`. */
export async function qwenTensors(folder: string, type: number): Promise<Tensor[]> {
  const file = await readFile(join(folder, 'model.safetensors'))
  const length = Number(file.readBigUInt64LE(0))
  const header: Record<string, { shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    file.subarray(8, 8 + length).toString(),
  )
  const found = Object.entries(header).filter(([name]) => name !== '__metadata__')
  return found.map(
    ([
      hf,
      {
        shape,
        data_offsets: [begin, end],
      },
    ]) => {
      const name = NAMES.reduce((text, [from, to]) => text.replace(from, to), hf)
      const data = file.subarray(8 + length + begin, 8 + length + end)
      if (shape.length === 1) return { name, type: F32, shape, data: widened(data) }
      return { name, type, shape, data: type === Q8_0 ? rounded(data) : data }
    },
  )
}

/** BF16 as F32. */
function widened(data: Buffer): Buffer {
  const out = Buffer.alloc(data.length * 2)
  for (let i = 0; i < data.length / 2; i++) out.writeUInt16LE(data.readUInt16LE(2 * i), 4 * i + 2)
  return out
}

/** BF16 as Q8_0, with scales that are powers of two: half precision is easy to write then. */
function rounded(data: Buffer): Buffer {
  const wide = widened(data)
  const out: Buffer[] = []
  for (let at = 0; at < wide.length; at += 128) {
    const values = Array.from({ length: 32 }, (_, i) => wide.readFloatLE(at + 4 * i))
    const largest = Math.max(...values.map(Math.abs), 2 ** -7)
    const exponent = Math.ceil(Math.log2(largest / 127))
    const block = Buffer.alloc(34)
    block.writeUInt16LE((exponent + 15) << 10)
    for (const [i, value] of values.entries()) {
      block.writeInt8(Math.max(-127, Math.min(127, Math.round(value / 2 ** exponent))), 2 + i)
    }
    out.push(block)
  }
  return Buffer.concat(out)
}

/** The keys of a Qwen 3 with its tokenizer, as converters write them. */
export async function qwenKeys(folder: string): Promise<Record<string, Value>> {
  const read = async (name: string): Promise<Json> =>
    JSON.parse(await readFile(join(folder, name), 'utf8'))
  const [config, tokenizer, settings] = await Promise.all(
    ['config.json', 'tokenizer.json', 'tokenizer_config.json'].map(read),
  )
  const count = (key: string): Value => ({ u32: Number(config?.[key]) })
  const own = (keys: Readonly<Record<string, Value>>): Record<string, Value> =>
    Object.fromEntries(Object.entries(keys).map(([key, value]) => [`qwen3.${key}`, value]))
  const { tokens, types, merges } = vocabulary(tokenizer ?? {})
  const template = await readFile(join(folder, 'chat_template.jinja'), 'utf8')
  return {
    'general.architecture': { string: 'qwen3' },
    'general.file_type': { u32: 32 },
    ...own({
      block_count: count('num_hidden_layers'),
      context_length: count('max_position_embeddings'),
      embedding_length: count('hidden_size'),
      feed_forward_length: count('intermediate_size'),
      'attention.head_count': count('num_attention_heads'),
      'attention.head_count_kv': count('num_key_value_heads'),
      'attention.key_length': count('head_dim'),
      'attention.layer_norm_rms_epsilon': { f32: Number(config?.['rms_norm_eps']) },
      'rope.freq_base': { f32: 10_000 },
    }),
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.pre': { string: 'qwen2' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.token_type': { i32s: types },
    'tokenizer.ggml.merges': { strings: merges },
    'tokenizer.ggml.eos_token_id': { u32: tokens.indexOf(String(settings?.['eos_token'])) },
    'tokenizer.ggml.padding_token_id': { u32: tokens.indexOf(String(settings?.['pad_token'])) },
    'tokenizer.ggml.add_bos_token': { bool: false },
    'tokenizer.chat_template': { string: template },
  }
}

function vocabulary(tokenizer: Json): { tokens: string[]; types: number[]; merges: string[] } {
  const model = isObject(tokenizer['model']) ? tokenizer['model'] : {}
  const tokens: string[] = []
  const types: number[] = []
  const vocab = isObject(model['vocab']) ? model['vocab'] : {}
  for (const [token, id] of Object.entries(vocab)) {
    tokens[Number(id)] = token
    types[Number(id)] = 1
  }
  const added: readonly unknown[] = Array.isArray(tokenizer['added_tokens'])
    ? tokenizer['added_tokens']
    : []
  for (const token of added.filter(isObject)) {
    tokens[Number(token['id'])] = String(token['content'])
    types[Number(token['id'])] = 3
  }
  const merges: readonly unknown[] = Array.isArray(model['merges']) ? model['merges'] : []
  return { tokens, types, merges: merges.filter(Array.isArray).map((pair) => pair.join(' ')) }
}
