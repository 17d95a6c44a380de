/** GGUF written and read back: bytes, splits, the imatrix, what is refused. */
import test from 'ava'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApi } from '../ts/api.ts'
import { MIXES } from '../ts/convert/gguf.ts'
import { nodeHost } from '../ts/host.node.ts'
import { NAME, openBinding } from './binding.ts'
import { failsWith, NOVELS, ROOT } from './helpers.ts'

const api = createApi(await openBinding(NAME), nodeHost)
const root = await mkdtemp(join(tmpdir(), 'lowbit-gguf-'))
test.after.always(() => rm(root, { recursive: true, force: true }))
const TEXT = 'Once upon a time there was a house at the end of the lane. '.repeat(40)
const run = { device: 'cpu', compute: 'f32' } as const

test(`${NAME}: the mixes of the help are those of the core`, async (t) => {
  const { ggufSchemes } = await api.catalog()
  t.deepEqual([...ggufSchemes], [...MIXES])
})

test(`${NAME}: a model as GGUF runs as itself, whole and in parts`, async (t) => {
  const out = join(root, 'm.gguf')
  const report = await api.convert(NOVELS, { out, scheme: 'Q8_0' })
  t.is(report.format, 'gguf')
  t.is(report.rounded, report.layers.length)
  t.true(report.layers.every(({ relativeError }) => relativeError < 0.01))
  const options = { text: TEXT, window: 128, reference: NOVELS }
  const { meanKld } = await api.evaluate(out, options)
  t.true(meanKld !== undefined && meanKld < 1e-3, `${meanKld}`)
  await api.convert(NOVELS, { out: join(root, 'p.gguf'), scheme: 'Q8_0', maxShardBytes: 2_000_000 })
  const parts = (await readdir(root)).filter((name) => name.startsWith('p-'))
  t.true(parts.length > 1, parts.join(' '))
  const whole = await api.load(out, run)
  const split = await api.load(join(root, parts.toSorted()[0] ?? ''), run)
  const tokens = Uint32Array.from([5, 300, 7, 1000])
  t.deepEqual(await split.logits(tokens), await whole.logits(tokens))
  await whole.dispose()
  await split.dispose()
  await failsWith(t, 'output-path', () => api.convert(NOVELS, { out, scheme: 'Q8_0' }))
})

test(`${NAME}: an imatrix is collected, merged and used`, async (t) => {
  const store = join(root, 'text.txt')
  await writeFile(store, TEXT)
  const collect = async (name: string, samples: number): Promise<string> => {
    const out = join(root, name)
    await api.imatrix(NOVELS, { out, calibration: store, samples, length: 32 })
    return out
  }
  const [one, two] = [await collect('one.gguf', 1), await collect('two.gguf', 2)]
  const sum = join(root, 'sum.gguf')
  const { merged, model } = await api.imatrix(undefined, { out: sum, merge: [one, two] })
  t.deepEqual([merged.length, model], [2, null])
  const legacy = join(root, 'sum.dat')
  t.is((await api.imatrix(undefined, { out: legacy, merge: [sum] })).format, 'dat')
  t.not((await readFile(legacy)).toString('latin1', 0, 4), 'GGUF')
  const plain = await api.convert(NOVELS, { out: join(root, 'a.gguf'), scheme: 'Q4_0' })
  const weighed = await api.convert(NOVELS, {
    out: join(root, 'b.gguf'),
    scheme: 'Q4_0',
    imatrix: sum,
    tensorTypes: [['attn_v', 'Q6_K']],
  })
  const typeOf = (name: string): string | undefined =>
    weighed.layers.find((layer) => layer.name.endsWith(name))?.scheme
  t.is(typeOf('layers.3.self_attn.v_proj'), 'Q6_K')
  t.is(typeOf('layers.3.self_attn.k_proj'), 'Q4_0')
  t.is(plain.layers.length, weighed.layers.length)
  await failsWith(t, 'imatrix', () =>
    api.convert(NOVELS, { out: join(root, 'c.gguf'), imatrix: store, scheme: 'Q4_0' }),
  )
})

test(`${NAME}: a file ends with the padding of its last tensor`, async (t) => {
  const out = join(root, 'phi.gguf')
  await api.convert(join(ROOT, 'models/tiny-phi3'), { out, scheme: 'F32' })
  t.is((await readFile(out)).length % 32, 0)
  const [original, back] = [
    await api.load(join(ROOT, 'models/tiny-phi3'), run),
    await api.load(out, run),
  ]
  const tokens = Uint32Array.from([5, 30, 7, 10])
  t.deepEqual(await back.logits(tokens), await original.logits(tokens))
  await original.dispose()
  await back.dispose()
})

test(`${NAME}: what is not written is refused before anything is`, async (t) => {
  const refused = (model: string, options: object, code: 'option' | 'unsupported' | 'imatrix') =>
    failsWith(t, code, () => api.convert(model, { out: join(root, 'x.gguf'), ...options }))
  await refused(NOVELS, { scheme: 'Q4_KM' }, 'option')
  await refused(NOVELS, { scheme: 'Q2_K_S' }, 'imatrix')
  await refused(NOVELS, { format: 'gptq' }, 'option')
  await refused(join(ROOT, 'models/tiny-qwen3-moe'), {}, 'unsupported')
  t.false((await readdir(root)).includes('x.gguf'))
})
