/** A model of zeros, to see whether a device takes one and runs it. */
import { memoryStore } from '../store/memory.ts'
import type { Store } from '../store/store.ts'

/** The smallest shapes that are like a real model's. */
const HIDDEN = 64
const VOCABULARY = 32

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: HIDDEN,
  intermediate_size: HIDDEN,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 32,
  vocab_size: VOCABULARY,
  max_position_embeddings: 16,
  rms_norm_eps: 1e-6,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  hidden_act: 'silu',
}

const BLOCK = 'model.layers.0.'

const SHAPES: Readonly<Record<string, readonly number[]>> = {
  'model.embed_tokens.weight': [VOCABULARY, HIDDEN],
  'model.norm.weight': [HIDDEN],
  [`${BLOCK}input_layernorm.weight`]: [HIDDEN],
  [`${BLOCK}post_attention_layernorm.weight`]: [HIDDEN],
  [`${BLOCK}self_attn.q_proj.weight`]: [HIDDEN, HIDDEN],
  [`${BLOCK}self_attn.k_proj.weight`]: [HIDDEN / 2, HIDDEN],
  [`${BLOCK}self_attn.v_proj.weight`]: [HIDDEN / 2, HIDDEN],
  [`${BLOCK}self_attn.o_proj.weight`]: [HIDDEN, HIDDEN],
  [`${BLOCK}mlp.gate_proj.weight`]: [HIDDEN, HIDDEN],
  [`${BLOCK}mlp.up_proj.weight`]: [HIDDEN, HIDDEN],
  [`${BLOCK}mlp.down_proj.weight`]: [HIDDEN, HIDDEN],
}

/** A checkpoint in memory. */
export function probeModel(): Store {
  const text = new TextEncoder()
  const files: [string, Uint8Array][] = [
    ['config.json', text.encode(JSON.stringify(CONFIG))],
    ['model.safetensors', weights()],
  ]
  return memoryStore(files, 'a model of zeros')
}

function weights(): Uint8Array {
  let end = 0
  const entries = Object.entries(SHAPES).map(([name, shape]) => {
    const begin = end
    end += shape.reduce((product, dim) => product * dim, 2)
    return [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }] as const
  })
  const json = JSON.stringify(Object.fromEntries(entries))
  const header = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8))
  const file = new Uint8Array(8 + header.length + end)
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true)
  file.set(header, 8)
  return file
}
