/** Scales that are searched with an importance matrix instead of a text. */
import test from 'ava'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { memoryStore } from '../ts/store/memory.ts'
import { NAME, openApi } from './binding.ts'
import { failsWith, NOVELS, ROOT, tempFolder } from './helpers.ts'

const api = await openApi()
const evaluated = join(ROOT, 'data/eval.txt')
const collected = join(ROOT, 'data/calibration.txt')

test(`${NAME}: an importance matrix makes rounding to nearest better, without a text`, async (t) => {
  const folder = await tempFolder(t)
  const imatrix = join(folder, 'novels.dat')
  await api.imatrix(NOVELS, { out: imatrix, calibration: collected, samples: 8, length: 128 })
  const text = (await readFile(evaluated, 'utf8')).slice(0, 6000)
  const loss = async (name: string, options: object): Promise<number> => {
    const out = join(folder, name)
    const report = await api.quantize(NOVELS, { out, method: 'rtn', scheme: 'w3g64', ...options })
    t.is(report.calibration, null)
    const { meanKld } = await api.evaluate(out, { text, window: 128, reference: NOVELS })
    return meanKld ?? Infinity
  }
  const plain = await loss('plain', {})
  const weighed = await loss('weighed', { imatrix })
  t.true(weighed < 0.9 * plain, `${weighed} with an importance matrix, ${plain} without`)
  const recipe = await readFile(join(folder, 'weighed', 'recipe.yaml'), 'utf8')
  t.regex(recipe, /--recipe recipe\.yaml --imatrix novels\.dat\n[^]*observer: imatrix-mse/)
})

test(`${NAME}: an importance matrix that is of no use is refused`, async (t) => {
  const folder = await tempFolder(t)
  const imatrix = join(folder, 'novels.gguf')
  await api.imatrix(NOVELS, { out: imatrix, calibration: collected, samples: 1, length: 16 })
  const refused = (options: object, code: 'option' | 'imatrix', model = NOVELS): Promise<Error> =>
    failsWith(t, code, () =>
      api.quantize(model, { out: memoryStore(), method: 'rtn', imatrix, ...options }),
    )
  await refused({ observer: 'mse' }, 'option')
  await refused({ method: 'hqq', scheme: 'w4g64-asym' }, 'option')
  await refused({ method: 'awq' }, 'option')
  const lacking = await refused({ scheme: 'w4g32' }, 'imatrix', join(ROOT, 'models/tiny-llama'))
  t.regex(lacking.message, /novels\.gguf.*blk\.0\.|blk\.0\..*novels\.gguf/)
  const text = join(folder, 'text.txt')
  await writeFile(text, 'no matrix')
  await refused({ imatrix: text }, 'imatrix')
})
