import test from 'ava'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { NAME, openApi } from './binding.ts'
import { readFixture } from './fixture.ts'
import { failsWith, ROOT, tempFolder } from './helpers.ts'

const api = await openApi()
const BERT = join(ROOT, 'models/tiny-bert')
const run = { compute: 'f32', device: 'cpu' } as const
const fixture = await readFixture('tiny-bert')
const texts: string[] = JSON.parse(fixture.metadata['texts'] ?? '')
const wanted = fixture.floats('embeddings')

/** Least cosine of the quantized model's vectors with those of transformers. */
async function cosine(place: string): Promise<number> {
  const model = await api.load(place, run)
  const vectors = await model.embed(texts)
  await model.dispose()
  const cosines = vectors.map((vector, i) => {
    // Both are of length 1.
    return vector.reduce((sum, v, j) => sum + v * (wanted[i * vector.length + j] ?? 0), 0)
  })
  return Math.min(...cosines)
}

for (const [method, scheme, least] of [
  ['rtn', 'w8', 0.999],
  ['rtn', 'w4g16', 0.97],
  ['gptq', 'w4g16', 0.97],
] as const) {
  test(`${NAME}: an encoder at ${method} ${scheme} gives nearly the same vectors`, async (t) => {
    const out = join(await tempFolder(t), 'out')
    const calibration = { samples: 4, length: 24 }
    const report = await api.quantize(BERT, { out, method, scheme, ...calibration })
    t.is(report.layers?.length, 12)
    const found = await cosine(out)
    t.true(found >= least && found < 1, `cosine ${found}`)
  })
}

test(`${NAME}: layers behind the pooling go with a quantized model`, async (t) => {
  const dense = join(ROOT, 'models/tiny-bert-dense')
  const out = join(await tempFolder(t), 'out')
  await api.quantize(dense, { out, method: 'rtn', scheme: 'w8' })
  const layer = '2_Dense/model.safetensors'
  t.deepEqual(await readFile(join(out, layer)), await readFile(join(dense, layer)))
  const [before, after] = await Promise.all(
    [dense, out].map(async (place) => {
      const model = await api.load(place, run)
      const [vector = new Float32Array()] = await model.embed('a fox')
      await model.dispose()
      return vector
    }),
  )
  const near = before?.reduce((sum, v, i) => sum + v * (after?.[i] ?? 0), 0) ?? 0
  t.true(near > 0.999 && near < 1, `cosine ${near}`)
})

test(`${NAME}: an unknown architecture is rounded with a note, and calibration refused`, async (t) => {
  const folder = await tempFolder(t)
  const model = join(folder, 'model')
  await cp(BERT, model, { recursive: true })
  const config = JSON.parse(await readFile(join(model, 'config.json'), 'utf8'))
  await writeFile(
    join(model, 'config.json'),
    JSON.stringify({ ...config, model_type: 'brand-new' }),
  )
  const out = join(folder, 'out')
  const refused = () => api.quantize(model, { out, scheme: 'w8' })
  t.regex((await failsWith(t, 'unknown-architecture', refused)).message, /brand-new/)
  const report = await api.quantize(model, { out, method: 'rtn', scheme: 'w8' })
  t.regex(report.notes.join(' '), /"brand-new" is not known: 12 matrices/)
  // Under its real name it is the model that it was.
  await writeFile(
    join(out, 'config.json'),
    (await readFile(join(out, 'config.json'), 'utf8')).replace('brand-new', 'bert'),
  )
  t.true((await cosine(out)) > 0.999)
})
