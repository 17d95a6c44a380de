import test from 'ava'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { memoryStore } from '../ts/store/memory.ts'
import { NAME, openApi } from './binding.ts'
import { readFixture } from './fixture.ts'
import { NOVELS, ROOT, textOf } from './helpers.ts'

const api = await openApi()
const native = NAME === 'node'

/** Data-free methods give the same bytes on every host and binding. */
const RTN_SHA256 = '1fac2c7151aefe5e749e4d54a833bedff7c1feaac119d597d939d59c1d5bafdf'

/** What the RTN output writes greedily in f32, on every host and binding. */
const RTN_TEXT =
  ' was in the room.\n\n"I am not afraid of it," said Holmes, "and I have no doubt that I have been in the same way. I have been in the same state of mind, and I have no doubt that I have been in the habit of doing so. I have been in the same'

/** llm-compressor 0.14.0.1 with the same scheme and text; see models/novels-4m/README.md. */
const PEER = { meanKld: 0.004966, perplexity: 46.128 }

test(`${NAME}: RTN gives the same bytes and greedy tokens on every binding`, async (t) => {
  const out = memoryStore()
  const report = await api.quantize(NOVELS, { out, method: 'rtn', scheme: 'w4g128' })
  t.is(report.layers.length, 28)
  t.is(report.files.find(({ name }) => name === 'model.safetensors')?.sha256, RTN_SHA256)
  const model = await api.load(out, { compute: 'f32', device: 'cpu' })
  t.like(model.info, { scheme: 'w4g128', bitsPerWeight: 4.125, compute: 'f32' })
  const { metadata } = await readFixture('novels-4m-reference')
  t.is(await textOf(model.generate(metadata['prompt_0'] ?? '', { maxTokens: 64 })), RTN_TEXT)
  await model.dispose()
})

if (native) {
  test('GPTQ: is as good as the reference tool on the same text', async (t) => {
    const out = memoryStore()
    const report = await api.quantize(NOVELS, { out })
    t.deepEqual(
      report.layers.flatMap((layer) => layer.fallback ?? []),
      [],
    )
    const figures = await api.evaluate(out, { reference: NOVELS, window: 512 })
    t.log(`perplexity ${figures.perplexity}, mean KL ${figures.meanKld}`)
    t.true((figures.meanKld ?? 1) <= 1.03 * PEER.meanKld)
    t.true(figures.perplexity <= 1.001 * PEER.perplexity)
  })

  test('int8 compute: stays close to f32 on the same model', async (t) => {
    const out = memoryStore()
    await api.quantize(NOVELS, { out, method: 'rtn' })
    const reference = await api.load(out, { compute: 'f32', device: 'cpu' })
    const text = (await readFile(join(ROOT, 'data/eval.txt'), 'utf8')).slice(0, 40_000)
    const options = { text, reference, compute: 'int8', device: 'cpu' } as const
    const figures = await api.evaluate(out, options)
    t.is(figures.compute, 'int8')
    t.log(`mean KL ${figures.meanKld}`)
    t.true((figures.meanKld ?? 1) < 0.002)
    await reference.dispose()
  })
}

test(`${NAME}: wrong schemes and shapes are refused in the plan`, async (t) => {
  const wrong = [
    [{ scheme: 'w4g96' }, 'scheme'],
    [{ scheme: 'five' }, 'scheme'],
    [{ method: 'gtpq' }, 'option'],
    [{ format: 'ggml' }, 'option'],
    [{ ignore: ['re:('] }, 'unsupported'],
  ] as const
  for (const [options, code] of wrong) {
    const error = await t.throwsAsync(
      api.quantize(NOVELS, { out: memoryStore(), dryRun: true, ...options }),
    )
    t.is(
      error && 'code' in error ? error.code : '',
      code,
      `${JSON.stringify(options)}: ${error?.message}`,
    )
    t.true((error?.message.length ?? 0) < 300)
  }
})
