/**
 * Writes the tiny checkpoint of every family as GGUF, in F32, and compares llama.cpp with lowbit:
 * probabilities of decoders, vectors of encoders.
 *
 * Made with: node-llama-cpp@3.22.1, installed in a folder of its own
 * Run:       node test/interop/families_gguf.mjs FOLDER [NAME…]
 *
 * Where llama.cpp has no key for what a config says, the config is changed to what it takes for
 * granted (`CHANGES`), and lowbit runs the same changed checkpoint. Prints a table, exits with 1
 * when a file does not load, a mean KL is above 2e-5 or a cosine below 0.9999.
 */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { convert, load } from '../../ts/index.node.ts'
import { readFixture } from '../fixture.ts'
import { ROOT } from '../helpers.ts'
import { compare, openLlama } from './llama.mjs'

const [folder, ...names] = process.argv.slice(2)
const say = (text) => process.stdout.write(`${text}\n`)
const run = { compute: 'f32', device: 'cpu' }
const MOST_KL = 2e-5
const LEAST_COSINE = 0.9999

/** What llama.cpp takes for granted where the config of a checkpoint says otherwise. */
const CHANGES = {
  'tiny-qwen2-window': { use_sliding_window: false, layer_types: null },
  'tiny-qwen2-moe': { mlp_only_layers: [], num_hidden_layers: 1, layer_types: null },
  'tiny-qwen3-moe': { mlp_only_layers: [], num_hidden_layers: 1, norm_topk_prob: true },
  'tiny-gemma2': { query_pre_attn_scalar: 20 },
  'tiny-smollm3': { no_rope_layers: null, no_rope_layer_interval: 4 },
  'tiny-deepseek-v2': { topk_method: 'greedy', n_group: 1, topk_group: 1 },
  'tiny-deepseek-v3': { rope_parameters: { mscale: 1 } },
  'tiny-phi3': { rope_parameters: { long_factor: 'short_factor' } },
}

/** Layers that GGUF knows of checkpoints whose others have no experts: this one becomes the first. */
const ONLY_LAYER = { 'tiny-qwen2-moe': 1, 'tiny-qwen3-moe': 2 }

/** Tokens that llama.cpp looks up in every model whose name says Phi-3. */
const LOOKED_UP = ['<unk>', '<s>', '</s>', '<|endoftext|>']

/** A config with the changes; text in the place of a list names the key whose list it gets. */
function changed(config, changes) {
  const out = { ...config }
  for (const [key, value] of Object.entries(changes)) {
    if (key === 'rope_parameters') out[key] = changed(config[key], value)
    else out[key] = typeof value === 'string' && Array.isArray(out[key]) ? config[value] : value
  }
  return out
}

/** One header and the bytes behind it, of a checkpoint in one or several files. */
async function tensorsOf(place) {
  const files = (await readdir(place)).filter((name) => name.endsWith('.safetensors')).toSorted()
  const all = []
  for (const file of files) {
    const bytes = await readFile(join(place, file))
    const start = 8 + Number(bytes.readBigUInt64LE())
    const { __metadata__: _, ...header } = JSON.parse(bytes.toString('utf8', 8, start))
    for (const [
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ] of Object.entries(header)) {
      all.push({ name, dtype, shape, data: bytes.subarray(start + begin, start + end) })
    }
  }
  return all
}

/** Writes the checkpoint with one of its layers as the only one. */
async function keepLayer(place, layer) {
  const prefix = `model.layers.${layer}.`
  const kept = (await tensorsOf(place))
    .filter(({ name }) => !name.startsWith('model.layers.') || name.startsWith(prefix))
    .map(({ name, dtype, shape, data }) => {
      return { name: name.replace(prefix, 'model.layers.0.'), dtype, shape, data }
    })
  for (const name of await readdir(place)) {
    if (name.includes('.safetensors')) await rm(join(place, name))
  }
  let end = 0
  const header = kept.map(({ name, dtype, shape, data }) => {
    const begin = end
    end += data.length
    return [name, { dtype, shape, data_offsets: [begin, end] }]
  })
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(json.length))
  const bytes = [size, json, ...kept.map(({ data }) => data)]
  await writeFile(join(place, 'model.safetensors'), Buffer.concat(bytes))
}

/** Copies a checkpoint, changed to what llama.cpp takes for granted, with a tokenizer. */
async function adapted(root, name) {
  const place = join(root, name)
  await cp(join(ROOT, 'models', name), place, { recursive: true, dereference: true })
  const path = join(place, 'config.json')
  const config = changed(JSON.parse(await readFile(path, 'utf8')), CHANGES[name] ?? {})
  await writeFile(path, JSON.stringify(config))
  if (name in ONLY_LAYER) await keepLayer(place, ONLY_LAYER[name])
  if (!(await readdir(place)).includes('tokenizer.json')) {
    // Loaders want as many tokens as rows.
    const rows = config.vocab_size ?? config.text_config.vocab_size
    const token = (_, i) => [LOOKED_UP[i] ?? `t${i}`, i]
    const vocab = Object.fromEntries(Array.from({ length: rows }, token))
    const tokenizer = {
      model: { type: 'BPE', vocab, merges: [] },
      pre_tokenizer: { type: 'ByteLevel', use_regex: true },
      normalizer: null,
      post_processor: null,
      decoder: { type: 'ByteLevel' },
      added_tokens: [],
    }
    await writeFile(join(place, 'tokenizer.json'), JSON.stringify(tokenizer))
  }
  return place
}

async function decoder(llama, name, place, file) {
  const model = await load(place, run)
  const fixture = await readFixture(name)
  const tokens = fixture.tokens('tokens')
  const wanted = await model.logits(tokens)
  await model.dispose()
  const { kl, off } = await compare(llama, file, [{ tokens: Array.from(tokens), wanted }])
  const said = `mean KL ${kl.toExponential(2)}, most ${off.toExponential(1)} off`
  return { said, passed: kl <= MOST_KL }
}

async function encoder(llama, name, file) {
  const fixture = await readFixture(name)
  const texts = JSON.parse(fixture.metadata.texts)
  const model = await load(file, run)
  const ours = await model.embed(texts)
  await model.dispose()
  const loaded = await llama.loadModel({ modelPath: resolve(file) })
  const context = await loaded.createEmbeddingContext({ contextSize: 'auto' })
  let least = 1
  for (const [i, text] of texts.entries()) {
    const { vector } = await context.getEmbeddingFor(text)
    const dot = (a, b) => a.reduce((sum, value, j) => sum + value * b[j], 0)
    const own = Array.from(ours[i])
    least = Math.min(least, dot(own, vector) / Math.sqrt(dot(own, own) * dot(vector, vector)))
  }
  await loaded.dispose()
  return { said: `least cosine ${least.toFixed(6)}`, passed: least >= LEAST_COSINE }
}

async function main() {
  const llama = await openLlama(folder)
  const root = await mkdtemp(join(tmpdir(), 'lowbit-families-'))
  const all = (await readdir(join(ROOT, 'models'))).filter((name) => name.startsWith('tiny-'))
  // Heads for classes and layers behind the pooling have no place in these files.
  const tiny = all.filter((name) => !/-(classify|dense|embed)$/.test(name))
  let failed = 0
  for (const name of names.length > 0 ? names : tiny) {
    try {
      const place = await adapted(root, name)
      const file = join(root, `${name}.gguf`)
      await convert(place, { out: file, scheme: 'F32' })
      const { said, passed } = name.includes('bert')
        ? await encoder(llama, name, file)
        : await decoder(llama, name, place, file)
      failed += Number(!passed)
      const changes = name in CHANGES ? `, changed: ${Object.keys(CHANGES[name]).join(' ')}` : ''
      say(`${passed ? 'ok    ' : 'FAILED'} ${name.padEnd(20)} ${said}${changes}`)
    } catch (error) {
      failed += 1
      say(`FAILED ${name.padEnd(20)} ${error.message}`)
    }
  }
  await rm(root, { recursive: true })
  say(failed > 0 ? `${failed} failed` : 'all load')
  process.exitCode = failed > 0 ? 1 : 0
}

await main()
