/** Encoders as GGUF and back: vectors, tokens, pooling, what has no place there. */
import test from 'ava'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openCheckpoint } from '../ts/checkpoint.ts'
import { fsStore } from '../ts/store/fs.ts'
import { NAME, openApi, openBinding } from './binding.ts'
import { readFixture, worst } from './fixture.ts'
import { failsWith, ROOT } from './helpers.ts'

const api = await openApi()
const root = await mkdtemp(join(tmpdir(), 'lowbit-encoder-'))
test.after.always(() => rm(root, { recursive: true, force: true }))
const run = { compute: 'f32', device: 'cpu' } as const
const place = (name: string): string => join(ROOT, 'models', name)

for (const [name, pooling] of [
  ['tiny-bert', 'pooling_mode_mean_tokens'],
  ['tiny-qwen3-embed', 'pooling_mode_lasttoken'],
] as const) {
  test(`${NAME}: ${name} has the vectors of transformers as a GGUF file`, async (t) => {
    const out = join(root, `${name}.gguf`)
    await api.convert(place(name), { out, scheme: 'F32' })
    const fixture = await readFixture(name)
    const texts: string[] = JSON.parse(fixture.metadata['texts'] ?? '')
    await using original = await api.load(place(name), run)
    await using model = await api.load(out, run)
    const vectors = await model.embed(texts)
    const all = Float32Array.from(vectors.flatMap((vector) => [...vector]))
    const difference = worst(all, fixture.floats('embeddings'))
    t.true(difference < 1e-5, `vectors differ by ${difference}`)
    for (const text of [...texts, 'The QUICK [MASK] brown-fox, über 12½ 小猫?']) {
      t.deepEqual(model.tokenize(text, true), original.tokenize(text, true), text)
      t.deepEqual(model.tokenize(text, false), original.tokenize(text, false), text)
    }
    const { store } = await openCheckpoint(await openBinding(NAME), {
      store: fsStore(root),
      file: `${name}.gguf`,
    })
    const said = new TextDecoder().decode(await store.read('1_Pooling/config.json'))
    t.is(JSON.parse(said)[pooling], true)
    // Blocks are as close as their bits let them.
    const small = join(root, `${name}-q8.gguf`)
    await api.convert(out, { out: small, scheme: 'Q8_0' })
    await using rounded = await api.load(small, run)
    const [a = new Float32Array(), b = new Float32Array()] = [
      (await rounded.embed(texts))[0],
      vectors[0],
    ]
    const cosine = a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0)
    t.true(cosine > 0.995, `${cosine}`)
  })
}

test(`${NAME}: a head for classes comes back from GGUF, one that nobody reads is refused`, async (t) => {
  const out = join(root, 'classify.gguf')
  await api.convert(place('tiny-bert-classify'), { out, scheme: 'F32' })
  await using original = await api.load(place('tiny-bert-classify'), run)
  await using model = await api.load(out, run)
  const texts = ['the quick fox', 'a dog']
  t.deepEqual(await model.classify(texts), await original.classify(texts))
  await failsWith(t, 'unknown-architecture', () =>
    api.convert(place('tiny-distilbert-classify'), { out: join(root, 'no.gguf') }),
  )
})
