/** Prefill and decode of the original and of a quantized model, in both compute modes. */
import { join } from 'node:path'
import { load, type Model, quantize } from '../dist/index.node.js'
import type { Figure, Setting } from './main.ts'
import { measure } from './measure.ts'

/** Long enough to be compute-bound, short enough to leave room for an answer. */
const PREFILL_TOKENS = 512
const DECODE_TOKENS = 128

/** Loads each model once and times both phases of a generation. */
export async function runBenches(setting: Setting): Promise<Figure[]> {
  const small = join(setting.scratch, 'run')
  const rows = [
    { model: 'original', folder: setting.source, compute: 'f32' },
    { model: 'w4g128', folder: small, compute: 'f32' },
    { model: 'w4g128', folder: small, compute: 'int8' },
  ] as const
  const wanted = rows.filter(({ model, compute }) =>
    ['prefill', 'decode'].some((phase) => setting.wants(`${phase} ${model} ${compute}`)),
  )
  if (wanted.length === 0) return []
  await quantize(setting.source, { out: small, method: 'rtn', force: true })
  const figures: Figure[] = []
  for (const { model, folder, compute } of wanted) {
    const loaded = await load(folder, { device: 'cpu', compute })
    figures.push(...(await phases(setting, loaded, `${model} ${compute}`)))
    await loaded.dispose()
  }
  return figures
}

async function phases(setting: Setting, model: Model, name: string): Promise<Figure[]> {
  const tokens = model.tokenize(setting.text).slice(0, PREFILL_TOKENS)
  const prompt = model.detokenize(tokens)
  const figures: Figure[] = []
  if (setting.wants(`prefill ${name}`)) {
    const work = async (): Promise<number> => (await generated(model, prompt, 1)).promptTokens
    figures.push(await measure({ name: `prefill ${name}`, unit: 'tokens', runs: 7, work }))
  }
  if (setting.wants(`decode ${name}`)) {
    const work = async (): Promise<number> =>
      (await generated(model, 'It was', DECODE_TOKENS)).completionTokens
    figures.push(await measure({ name: `decode ${name}`, unit: 'tokens', runs: 5, work }))
  }
  return figures
}

async function generated(
  model: Model,
  prompt: string,
  maxTokens: number,
): Promise<{ promptTokens: number; completionTokens: number }> {
  const pieces = model.generate(prompt, { maxTokens, temperature: 0 })
  for (;;) {
    const { done, value } = await pieces.next()
    if (!done) continue
    if (value.completionTokens === 0) throw new Error('the model generated nothing')
    return value
  }
}
