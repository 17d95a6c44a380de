/**
 * A Llama of any size with random weights, written tensor by tensor so that it never is in memory.
 *   node bench/peers/llama.ts FOLDER [--layers 22] [--seed 0]
 * With its defaults it has 1.1 billion parameters in bf16, 2.2 GB.
 */
import { copyFileSync, createWriteStream, mkdirSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { MODEL } from './tools.ts'

/** Sizes of a model. */
export interface Shape {
  readonly layers: number
  readonly hidden: number
  readonly mlp: number
  readonly heads: number
  readonly kvHeads: number
  readonly vocabulary: number
}

/** The sizes of TinyLlama: 1.1 billion parameters. */
export const BILLION: Shape = {
  layers: 22,
  hidden: 2048,
  mlp: 5632,
  heads: 32,
  kvHeads: 4,
  vocabulary: 32_000,
}

interface Tensor {
  readonly name: string
  readonly shape: readonly number[]
  /** Standard deviation of its values; 0 for a norm, which is all ones. */
  readonly deviation: number
}

/** Values that are made at a time. */
const PIECE = 1 << 20

/** Writes config, tokenizer and weights. */
export async function makeLlama(folder: string, shape: Shape, seed = 0): Promise<void> {
  mkdirSync(folder, { recursive: true })
  const tensors = tensorsOf(shape)
  let end = 0
  const header = Object.fromEntries(
    tensors.map(({ name, shape: dims }) => {
      const begin = end
      end += 2 * count(dims)
      return [name, { dtype: 'BF16', shape: dims, data_offsets: [begin, end] }] as const
    }),
  )
  const json = JSON.stringify(header)
  const head = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  head.writeBigUInt64LE(BigInt(head.length - 8))
  head.write(json, 8)
  const file = createWriteStream(join(folder, 'model.safetensors'))
  file.write(head)
  const random = generator(seed)
  for (const tensor of tensors) {
    const quantiles = tensor.deviation > 0 ? normals(tensor.deviation) : undefined
    for (let left = count(tensor.shape); left > 0; left -= PIECE) {
      const values = new Uint16Array(Math.min(left, PIECE)).fill(0x3f80)
      if (quantiles) for (let i = 0; i < values.length; i++) values[i] = quantiles[random()] ?? 0
      if (!file.write(Buffer.from(values.buffer))) await once(file, 'drain')
    }
  }
  file.end()
  await once(file, 'finish')
  writeFileSync(join(folder, 'config.json'), configText(shape))
  // Its ids are fewer than the vocabulary's, and random weights do not care.
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(join(MODEL, name), join(folder, name))
  }
}

function tensorsOf({ layers, hidden, mlp, heads, kvHeads, vocabulary }: Shape): readonly Tensor[] {
  const kv = (hidden / heads) * kvHeads
  const norm = (name: string): Tensor => ({ name: `${name}.weight`, shape: [hidden], deviation: 0 })
  const block = (i: number): readonly Tensor[] => {
    const at = `model.layers.${i}`
    return [
      norm(`${at}.input_layernorm`),
      linear(`${at}.self_attn.q_proj`, hidden, hidden),
      linear(`${at}.self_attn.k_proj`, kv, hidden),
      linear(`${at}.self_attn.v_proj`, kv, hidden),
      linear(`${at}.self_attn.o_proj`, hidden, hidden),
      norm(`${at}.post_attention_layernorm`),
      linear(`${at}.mlp.gate_proj`, mlp, hidden),
      linear(`${at}.mlp.up_proj`, mlp, hidden),
      linear(`${at}.mlp.down_proj`, hidden, mlp),
    ]
  }
  return [
    { name: 'model.embed_tokens.weight', shape: [vocabulary, hidden], deviation: 1 },
    ...Array.from({ length: layers }, (_, i) => block(i)).flat(),
    norm('model.norm'),
    linear('lm_head', vocabulary, hidden),
  ]
}

function linear(name: string, rows: number, cols: number): Tensor {
  return { name: `${name}.weight`, shape: [rows, cols], deviation: 1 / Math.sqrt(cols) }
}

function configText({ layers, hidden, mlp, heads, kvHeads, vocabulary }: Shape): string {
  const config = {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: mlp,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocabulary,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
  }
  return `${JSON.stringify(config, undefined, 2)}\n`
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1)
}

/** Whole numbers below 65536, the same for the same seed: xorshift32. */
function generator(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6d2b79f5) | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 16
  }
}

/** Values of a normal distribution at 65536 equal steps of probability, as bf16. */
function normals(deviation: number): Uint16Array {
  const bits = new Uint32Array(1)
  const float = new Float32Array(bits.buffer)
  return Uint16Array.from({ length: 65_536 }, (_, i) => {
    float[0] = deviation * quantile((i + 0.5) / 65_536)
    return (bits[0] ?? 0) >>> 16
  })
}

/** Inverse of the normal distribution; Abramowitz and Stegun, formula 26.2.23. */
function quantile(p: number): number {
  const t = Math.sqrt(-2 * Math.log(Math.min(p, 1 - p)))
  const above = 2.515517 + t * (0.802853 + t * 0.010328)
  const below = 1 + t * (1.432788 + t * (0.189269 + t * 0.001308))
  return Math.sign(p - 0.5) * (t - above / below)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = {
    layers: { type: 'string', default: '22' },
    seed: { type: 'string', default: '0' },
  } as const
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  const [folder] = positionals
  if (folder === undefined) throw new Error('name the folder to write')
  await makeLlama(folder, { ...BILLION, layers: Number(values.layers) }, Number(values.seed))
}
