import test from 'ava'
import { join } from 'node:path'
import { floatsOf } from '../ts/bytes.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { nodeHost } from '../ts/host.node.ts'
import { NAME, openApi } from './binding.ts'
import { readFixture, worst } from './fixture.ts'
import { failsWith, ROOT } from './helpers.ts'

const api = await openApi()
const place = (name: string): string => join(ROOT, 'models', name)
const run = { compute: 'f32', device: 'cpu' } as const

for (const name of ['tiny-bert', 'tiny-bert-dense', 'tiny-qwen3-embed']) {
  test(`${NAME}: ${name} has the vectors of transformers`, async (t) => {
    const fixture = await readFixture(name)
    const texts: string[] = JSON.parse(fixture.metadata['texts'] ?? '')
    const model = await api.load(place(name), run)
    const vectors = await model.embed(texts)
    t.is(vectors.length, texts.length)
    const all = Float32Array.from(vectors.flatMap((vector) => [...vector]))
    const difference = worst(all, fixture.floats('embeddings'))
    t.true(difference < 1e-5, `vectors differ by ${difference}`)
    // Order and company make no difference.
    const [last] = await model.embed(texts.at(-1) ?? '')
    t.deepEqual(last, vectors.at(-1))
    await model.dispose()
  })
}

for (const [name, by] of [
  ['tiny-bert-classify', 'softmax'],
  ['tiny-roberta-classify', 'sigmoid'],
  ['tiny-distilbert-classify', 'sigmoid'],
  ['tiny-qwen3-classify', 'softmax'],
] as const) {
  test(`${NAME}: ${name} has the labels of transformers`, async (t) => {
    const fixture = await readFixture(name)
    const texts: string[] = JSON.parse(fixture.metadata['texts'] ?? '')
    const pairs: [string, string][] = JSON.parse(fixture.metadata['pairs'] ?? '')
    const wanted = fixture.floats('labels')
    const model = await api.load(place(name), run)
    t.true(model.info.tasks.includes('classify'))
    const raw = await model.classify([...texts, ...pairs], { scores: 'none' })
    const labels = raw[0]?.scores.length ?? 0
    for (const [i, { label, score, scores }] of raw.entries()) {
      const own = wanted.subarray(i * labels, (i + 1) * labels)
      t.true(Math.abs(score - Math.max(...own)) < 1e-4 * Math.max(...wanted.map(Math.abs)))
      t.deepEqual(scores[0], { label, score })
    }
    const [first] = await model.classify(texts)
    const powers = Array.from(wanted.subarray(0, labels), Math.exp)
    const sum = powers.reduce((a, b) => a + b, 0)
    const likeliest = Math.max(...powers)
    const share = by === 'softmax' ? likeliest / sum : likeliest / (1 + likeliest)
    t.true(Math.abs((first?.score ?? 0) - share) < 1e-4, `${first?.score} for ${share}`)
    await model.dispose()
  })
}

test(`${NAME}: names of labels are the config's`, async (t) => {
  const model = await api.load(place('tiny-bert-classify'), run)
  const [found] = await model.classify('a fox')
  t.deepEqual(found?.scores.map(({ label }) => label).toSorted(), ['bad', 'good', 'neither'])
  await model.dispose()
})

test(`${NAME}: texts that are too long are cut inside their frame, or refused`, async (t) => {
  const model = await api.load(place('tiny-bert'), run)
  // 24 tokens are the limit of the files; two are the frame's.
  const long = Array.from({ length: 30 }, () => 'fox').join(' ')
  const cut = Array.from({ length: 22 }, () => 'fox').join(' ')
  t.deepEqual(await model.embed(long), await model.embed(cut))
  await failsWith(t, 'context', () => model.embed(long, { truncate: false }))
  await model.dispose()
  const pairs = await api.load(place('tiny-bert-classify'), run)
  // 40 positions: three for the frame, the longer text is cut.
  const shorter = Array.from({ length: 35 }, () => 'fox').join(' ')
  const [a] = await pairs.classify([['the dog', `${shorter} ${shorter}`]])
  const [b] = await pairs.classify([['the dog', shorter]])
  t.deepEqual(a, b)
  await pairs.dispose()
})

test(`${NAME}: what a model cannot do is refused by name`, async (t) => {
  const bert = await api.load(place('tiny-bert'), run)
  const logits = await failsWith(t, 'unsupported', () => bert.logits(Uint32Array.of(2, 5, 3)))
  t.regex(logits.message, /no output head/)
  const next = () => bert.generate('a fox').next()
  t.regex((await failsWith(t, 'unsupported', next)).message, /no output head/)
  await failsWith(t, 'unsupported', () => bert.classify('a fox'))
  await failsWith(t, 'option', () => bert.embed('a fox', { prompt: 'query' }))
  await bert.dispose()
  const onGpu = () => api.load(place('tiny-bert'), { device: 'gpu' })
  t.regex((await failsWith(t, 'unsupported', onGpu)).message, /GPU/)
})

test(`${NAME}: layers behind the pooling are checked, and vectors need not have length 1`, async (t) => {
  const { store } = await nodeHost.source(place('tiny-bert-dense'))
  const files = new Map<string, Uint8Array>()
  for (const name of await store.list()) files.set(name, await store.read(name))
  const model = await api.load(memoryStore(files), run)
  const [plain = new Float32Array()] = await model.embed('a fox', { normalize: false })
  const [unit = new Float32Array()] = await model.embed('a fox')
  t.is(unit.length, 24)
  const length = Math.hypot(...plain)
  t.true(Math.abs(length - 1) > 0.01, `length ${length}`)
  t.true(
    worst(
      plain.map((v) => v / length),
      unit,
    ) < 1e-6,
  )
  await model.dispose()
  const config = (change: object): Promise<unknown> => {
    const name = '2_Dense/config.json'
    const json = JSON.parse(new TextDecoder().decode(files.get(name)))
    const text = JSON.stringify({ ...json, ...change })
    const changed = memoryStore([...files, [name, new TextEncoder().encode(text)]])
    return api.load(changed, run).then((other) => other.embed('a fox'))
  }
  await failsWith(t, 'shape', () => config({ in_features: 47 }))
  await failsWith(t, 'unsupported', () => config({ activation_function: 'torch.nn.Softmax' }))
  await failsWith(t, 'unsupported', () => config({ module_input_name: 'token_embeddings' }))
  files.delete('2_Dense/model.safetensors')
  await failsWith(t, 'not-found', () => config({}))
})

test('floats of 16 bits are widened exactly, wherever they lie', async (t) => {
  // Behind a byte, so that no value is where a view of two bytes could begin.
  const behind = (...bytes: readonly number[]): Uint8Array => Uint8Array.of(9, ...bytes).subarray(1)
  const halves = behind(0, 0x3c, 1, 0, 0xff, 0x7b, 0, 0xfc, 0, 0x80, 0, 0x7e)
  const found = [1, 2 ** -24, 65_504, -Infinity, -0, Number.NaN]
  t.deepEqual([...floatsOf('F16', halves, 'here')], found)
  const brains = behind(0x80, 0x3f, 1, 0, 0x80, 0xff, 0x49, 0xc0)
  t.deepEqual([...floatsOf('BF16', brains, 'here')], [1, 2 ** -133, -Infinity, -3.140625])
  t.deepEqual([...floatsOf('F32', behind(0, 0, 0x80, 0x3f), 'here')], [1])
  await failsWith(t, 'dtype', async () => floatsOf('F8_E4M3', halves, 'here'))
})

test(`${NAME}: a module that is not computed is refused by name, when vectors are asked for`, async (t) => {
  const { store } = await nodeHost.source(place('tiny-bert'))
  const files = new Map<string, Uint8Array>()
  for (const name of await store.list()) files.set(name, await store.read(name))
  const modules = JSON.parse(new TextDecoder().decode(files.get('modules.json')))
  modules.splice(2, 0, {
    idx: 2,
    name: '2',
    path: '2_LSTM',
    type: 'sentence_transformers.models.LSTM',
  })
  files.set('modules.json', new TextEncoder().encode(JSON.stringify(modules)))
  const model = await api.load(memoryStore(files), run)
  const error = await failsWith(t, 'unsupported', () => model.embed('a fox'))
  t.regex(error.message, /"LSTM"/)
  await model.dispose()
})
