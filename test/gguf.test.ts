import test from 'ava'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { openCheckpoint, readTensor } from '../ts/checkpoint.ts'
import { openGguf } from '../ts/gguf.ts'
import type { Model } from '../ts/model.ts'
import { fsStore } from '../ts/store/fs.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { needTokenizer, openTokenizer } from '../ts/text/tokenizer.ts'
import { NAME, openApi, openBinding } from './binding.ts'
import {
  BF16,
  F32,
  gguf,
  number,
  Q8_0,
  qwenKeys,
  qwenTensors,
  string,
  type Value,
} from './gguf-writer.ts'
import { failsWith, NOVELS, ROOT, tempFolder, textOf } from './helpers.ts'

const api = await openApi()
const binding = await openBinding()

const TEXTS = [
  'It was the best of times, it was the worst of times.',
  '小さな猫 和 一只大狗，中文测试。',
  'café 🙂👩‍👩‍👧 1234567.89 %',
  'for (let i = 0; i < n; i++) {\n\tsum += a[i] ?? 0\r\n}',
  "<|im_start|>user\n  I'LL go  <|im_end|>",
]

const TOKENS = Uint32Array.from({ length: 48 }, (_, i) => (i * 37 + 11) % 4096)

async function novels(type: number): Promise<Buffer> {
  return gguf(await qwenKeys(NOVELS), await qwenTensors(NOVELS, type))
}

async function written(
  t: ExecutionContext,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<string> {
  const folder = await tempFolder(t)
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes)
  return folder
}

/** The model under its own name and in parts, as `split` of llama.cpp cuts. */
async function parts(count: number): Promise<Record<string, Buffer>> {
  const tensors = await qwenTensors(NOVELS, BF16)
  const size = Math.ceil(tensors.length / count)
  const files: Record<string, Buffer> = {}
  for (let i = 0; i < count; i++) {
    const keys: Record<string, Value> = {
      ...(i === 0 ? await qwenKeys(NOVELS) : {}),
      'split.no': { u32: i },
      'split.count': { u32: count },
      'split.tensors.count': { u32: tensors.length },
    }
    const of = (n: number): string => String(n).padStart(5, '0')
    const name = `m-${of(i + 1)}-of-${of(count)}.gguf`
    files[name] = gguf(keys, tensors.slice(i * size, (i + 1) * size))
  }
  return files
}

async function logitsOf(place: string): Promise<Float32Array> {
  await using model: Model = await api.load(place, { compute: 'f32', device: 'cpu' })
  // Awaited, because the model is disposed of on the way out.
  return await model.logits(TOKENS)
}

test(`${NAME}: a GGUF file gives the logits, ids and texts of the checkpoint it was made of`, async (t) => {
  const folder = await written(t, { 'm.gguf': await novels(BF16) })
  await using original = await api.load(NOVELS, { compute: 'f32', device: 'cpu' })
  await using model = await api.load(join(folder, 'm.gguf'), { compute: 'f32', device: 'cpu' })
  t.deepEqual(await model.logits(TOKENS), await original.logits(TOKENS))
  for (const text of TEXTS) {
    const ids = original.tokenize(text, true)
    t.deepEqual(model.tokenize(text, true), ids, text)
    t.is(model.detokenize(ids), original.detokenize(ids))
  }
  const chat = [{ role: 'user', content: 'Tell me of the sea.' }]
  const said = await textOf(original.generate(chat, { maxTokens: 12 }))
  t.is(await textOf(model.generate(chat, { maxTokens: 12 })), said)
  // The folder alone is enough where it holds one model.
  t.deepEqual(await logitsOf(folder), await original.logits(TOKENS))
})

test(`${NAME}: several files are one model, whichever is named`, async (t) => {
  const files = await parts(3)
  const folder = await written(t, files)
  const wanted = await logitsOf(NOVELS)
  t.deepEqual(await logitsOf(join(folder, 'm-00002-of-00003.gguf')), wanted)
  t.deepEqual(await logitsOf(folder), wanted)
  const { 'm-00003-of-00003.gguf': _, ...some } = files
  const gap = await written(t, some)
  const error = await failsWith(t, 'index', () => api.inspect(gap))
  t.regex(error.message, /m-00003-of-00003\.gguf/)
  const two = await written(t, { 'a.gguf': new Uint8Array(), 'b.gguf': new Uint8Array() })
  await failsWith(t, 'index', () => api.inspect(two))
})

test(`${NAME}: blocks run as they are, and are described`, async (t) => {
  const folder = await written(t, { 'm.gguf': await novels(Q8_0) })
  const found = await api.inspect(folder)
  t.is(found.format, 'GGUF v3, BF16')
  t.is(found.modelType, 'qwen3')
  t.deepEqual(found.schemes, { Q8_0: 29 })
  t.is(found.bitsPerWeight.toFixed(1), '8.5')
  t.is(found.metadata['qwen3.block_count'], '4')
  t.is(found.metadata['tokenizer.ggml.tokens'], '[4096 values]')
  await using model = await api.load(folder, { compute: 'f32', device: 'cpu' })
  t.is(model.info.bitsPerWeight, 8.5)
  const [a, b] = [await model.logits(TOKENS), await logitsOf(NOVELS)]
  const largest = b.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? 0))), 0)
  t.true(worst > 0 && worst < 0.05 * largest, `${worst} of ${largest}`)
  // The floats that the blocks stand for, a part of a row at a time.
  const store = fsStore(folder)
  const blocks = await openCheckpoint(binding, { store })
  const floats = await openCheckpoint(binding, { store }, { floats: 'F32' })
  const name = 'model.layers.1.mlp.up_proj.weight'
  const whole = await readTensor(floats, name)
  t.is(whole.length, 4 * 768 * 256)
  const part = await readTensor(floats, name, { offset: 5000, length: 3000 })
  t.deepEqual(Buffer.from(part), Buffer.from(whole.slice(5000, 8000)))
  t.is((await readTensor(blocks, name)).length, (768 * 256 * 34) / 32)
})

test(`${NAME}: a GGUF file is quantized as its checkpoint is`, async (t) => {
  const folder = await written(t, { 'm.gguf': await novels(BF16) })
  const outputs = await Promise.all(
    [NOVELS, join(folder, 'm.gguf')].map(async (model) => {
      const out = memoryStore()
      await api.quantize(model, { out, method: 'rtn', scheme: 'w4g32' })
      return out
    }),
  )
  const [wanted, found] = await Promise.all(
    outputs.map(async (store) => openCheckpoint(binding, { store })),
  )
  t.truthy(wanted && found)
  if (!wanted || !found) return
  t.deepEqual([...found.tensors.keys()].toSorted(), [...wanted.tensors.keys()].toSorted())
  for (const [name, tensor] of wanted.tensors) {
    // Norms are F32 in GGUF; everything else has the same bytes.
    if (name.endsWith('norm.weight')) continue
    t.deepEqual(await readTensor(found, name), await readTensor(wanted, name), name)
    t.is(found.tensors.get(name)?.dtype, tensor.dtype)
  }
  t.true(outputs[1]?.files.has('tokenizer.json'))
  t.false(outputs[1]?.files.has('m.gguf'))
})

test(`${NAME}: an address is read by ranges`, async (t) => {
  const file = await novels(BF16)
  let sent = 0
  const server = createServer((request, response) => {
    const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []
    if (request.url !== '/models/m.gguf') return response.writeHead(404).end()
    if (request.method === 'HEAD') {
      return response.writeHead(200, { 'content-length': file.length, etag: '"1"' }).end()
    }
    const body = file.subarray(Number(first), Number(last) + 1)
    sent += body.length
    return response.writeHead(206, { 'content-length': body.length, etag: '"1"' }).end(body)
  })
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready)
  })
  t.teardown(() => server.close())
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  const place = `http://127.0.0.1:${port}/models/m.gguf?download=true`
  const { parameters } = await api.inspect(place)
  t.true(parameters > 4e6)
  t.true(sent <= 1 << 20, `${sent} bytes for a description`)
  t.deepEqual(await logitsOf(place), await logitsOf(NOVELS))
})

test(`${NAME}: pieces with scores encode as SentencePiece does`, async (t) => {
  const path = join(ROOT, 'test/fixtures/vectors/pieces.json')
  const pieces: {
    tokens: string[]
    scores: number[]
    types: number[]
    texts: { text: string; ids: number[] }[]
  } = JSON.parse(await readFile(path, 'utf8'))
  const file = gguf(
    {
      ...(await qwenKeys(NOVELS)),
      'tokenizer.ggml.model': { string: 'llama' },
      'tokenizer.ggml.tokens': { strings: pieces.tokens },
      'tokenizer.ggml.scores': { f32s: pieces.scores },
      'tokenizer.ggml.token_type': { i32s: pieces.types },
      'tokenizer.ggml.bos_token_id': { u32: 1 },
      'tokenizer.ggml.eos_token_id': { u32: 2 },
      'tokenizer.ggml.padding_token_id': { u32: 0xff_ff_ff_ff },
      'tokenizer.ggml.add_bos_token': { bool: true },
    },
    [],
  )
  const store = memoryStore([['m.gguf', file]])
  const opened = await openGguf(binding, store, 'm.gguf')
  const tokenizer = needTokenizer(await openTokenizer(opened.store), 'm.gguf')
  for (const { text, ids } of pieces.texts) {
    t.deepEqual([...tokenizer.encode(text, false)], ids, text)
    t.is(tokenizer.decode(ids), text)
    t.deepEqual([...tokenizer.encode(text, true)], [1, ...ids], text)
  }
})

test(`${NAME}: a file that is not understood in all is described`, async (t) => {
  const keys: Record<string, Value> = {
    ...(await qwenKeys(NOVELS)),
    'tokenizer.ggml.pre': { string: 'of-the-future' },
  }
  const folder = await written(t, { 'm.gguf': gguf(keys, await qwenTensors(NOVELS, BF16)) })
  t.is((await api.inspect(folder)).modelType, 'qwen3')
  const error = await failsWith(t, 'tokenizer', () => api.load(folder))
  t.regex(error.message, /of-the-future.*known: llama-bpe/)
  const other = gguf({ 'general.architecture': { string: 'rwkv9' } }, [
    { name: 'blk.0.odd.weight', type: F32, shape: [2, 2], data: new Uint8Array(16) },
  ])
  const strange = await written(t, { 'm.gguf': other })
  const { tensors, modelType } = await api.inspect(strange)
  t.deepEqual([tensors[0]?.name, modelType], ['blk.0.odd.weight', 'rwkv9'])
  await failsWith(t, 'unknown-architecture', () => api.load(strange))
})

test(`${NAME}: metadata of another type than its reader needs is refused`, async (t) => {
  const keys = await qwenKeys(NOVELS)
  const refused = async (change: Readonly<Record<string, Value>>): Promise<string> => {
    const store = memoryStore([['m.gguf', gguf({ ...keys, ...change }, [])]])
    const error = await t.throwsAsync(async () => {
      const { store: texts } = await openGguf(binding, store, 'm.gguf')
      await openTokenizer(texts)
    })
    return error && 'code' in error ? String(error.code) : 'none'
  }
  t.is(await refused({ 'tokenizer.ggml.tokens': { i32s: [1, 2] } }), 'metadata')
  t.is(await refused({ 'tokenizer.ggml.token_type': { i32s: [1] } }), 'tokenizer')
  t.is(await refused({ 'tokenizer.ggml.eos_token_id': { u32: 4096 } }), 'tokenizer')
  const kind = (name: string): Record<string, Value> => ({
    'tokenizer.ggml.model': { string: name },
  })
  const scores = { f32s: Array.from({ length: 4096 }, () => -1) }
  t.is(await refused(kind('rwkv')), 'tokenizer')
  t.is(await refused(kind('t5')), 'tokenizer')
  t.is(await refused({ ...kind('t5'), 'tokenizer.ggml.scores': { f32s: [1] } }), 'tokenizer')
  const map = { 'tokenizer.ggml.precompiled_charsmap': { i32s: [1] } }
  t.is(await refused({ ...kind('t5'), ...map, 'tokenizer.ggml.scores': scores }), 'metadata')
  const unknown = { 'tokenizer.ggml.unknown_token_id': { u32: 5000 } }
  t.is(await refused({ ...kind('bert'), ...unknown }), 'tokenizer')
  t.is(await refused({ 'qwen3.block_count': { u32: 0x7f_ff_ff_ff } }), 'config')
  t.is(await refused({ 'qwen3.attention.head_count': { i32s: [4, 4] } }), 'metadata')
  t.is(await refused({ 'qwen3.embedding_length': { string: '256' } }), 'metadata')
  t.is(await refused({ 'general.type': { string: 'imatrix' } }), 'not-a-model')
  t.is(await refused({ 'general.architecture': { u32: 1 } }), 'metadata')
  t.is(await refused({ 'tokenizer.ggml.merges': { strings: ['ab'] } }), 'tokenizer')
})

test(`${NAME}: a file that is cut anywhere says so`, async (t) => {
  const folder = await tempFolder(t)
  const whole = await novels(Q8_0)
  await mkdir(join(folder, 'cut'))
  for (const length of [0, 3, 9, 23, 40, 2000, 60_000, whole.length - 1]) {
    const path = join(folder, 'cut', 'm.gguf')
    await writeFile(path, whole.subarray(0, length))
    await failsWith(t, 'truncated', () => api.inspect(path))
  }
  const head = Buffer.concat([Buffer.from('GGUF'), number(4, 3), number(8, 0), number(8, 1)])
  const path = join(folder, 'endless.gguf')
  await writeFile(path, Buffer.concat([head, string('a'), number(4, 8), number(8, -1)]))
  await failsWith(t, 'string-limit', () => api.inspect(path))
})
