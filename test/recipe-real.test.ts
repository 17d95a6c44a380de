/** Recipes through the real core: other tools' files as they are, and ours byte for byte. */
import test, { type ExecutionContext } from 'ava'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse } from 'yaml'
import type { QuantizeReport } from '../ts/quantize/report.ts'
import { openApi } from './binding.ts'
import { NOVELS, ROOT, tempFolder } from './helpers.ts'

const api = await openApi()

/** Small, because what is shown does not depend on how much text there is. */
const SMALL = { samples: 4, length: 64 } as const

/** Digests of the files that hold tensors. */
function tensors({ files }: QuantizeReport): readonly string[] {
  return files.filter(({ name }) => name.endsWith('.safetensors')).map(({ sha256 }) => sha256)
}

/** Quantizes by a recipe, then again by the recipe that lies beside the result. */
async function twice(
  t: ExecutionContext,
  options: Partial<Parameters<typeof api.quantize>[1]>,
): Promise<{ readonly report: QuantizeReport; readonly recipe: Record<string, unknown> }> {
  const root = await tempFolder(t)
  const [first, second] = [join(root, 'first'), join(root, 'second')]
  const report = await api.quantize(NOVELS, { ...SMALL, ...options, out: first })
  // Away from the first result, as somebody else would have it.
  await mkdir(join(root, 'sent'))
  const sent = join(root, 'sent', 'recipe.yaml')
  await copyFile(join(first, 'recipe.yaml'), sent)
  const again = await api.quantize(NOVELS, { out: second, recipe: sent, threads: 1 })
  t.deepEqual(tensors(again), tensors(report))
  const text = await readFile(sent, 'utf8')
  t.is(await readFile(join(second, 'recipe.yaml'), 'utf8'), text)
  const recipe: Record<string, unknown> = parse(text)
  return { report, recipe }
}

for (const name of ['smoothquant-gptq.yaml', 'awq-config-groups.yaml', 'stages.yaml']) {
  test(`llm-compressor's ${name} runs as it is, and its result is made again`, async (t) => {
    t.timeout(180_000)
    const { report } = await twice(t, { recipe: join(ROOT, 'test/fixtures/recipes', name) })
    t.is(report.layers.length, 28)
    t.true(report.transforms.length >= 4)
  })
}

for (const recipe of ['awq-gptq-w4a16', 'sparsegpt-2of4', 'rotate-gptq-w4a16', 'hqq-w4', 'nf4']) {
  test(`${recipe}: the effective recipe gives the same bytes`, async (t) => {
    t.timeout(180_000)
    const { report } = await twice(t, { recipe })
    t.is(report.layers.length, 28)
  })
}

test('the effective recipe holds exceptions, ignores and every default', async (t) => {
  t.timeout(180_000)
  const { recipe } = await twice(t, {
    ignore: ['re:.*q_proj'],
    layers: [['re:.*down_proj', 'w8g128']],
    maxShardBytes: 2 << 20,
  })
  const modifiers = [
    {
      gptq: {
        scheme: 'w4g128',
        layers: { 're:.*down_proj': 'w8g128' },
        ignore: ['lm_head', 're:.*q_proj'],
        observer: 'mse',
        'act-order': 'static',
        'true-sequential': false,
        damp: 0.01,
        block: 128,
        refine: 3,
      },
    },
  ]
  t.like(recipe, { modifiers, format: 'compressed-tensors', 'max-shard-bytes': 2 << 20, seed: 0 })
})
