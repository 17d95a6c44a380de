/** Weights per second of each method, file reading and writing included. */
import { join } from 'node:path'
import { quantize } from '../dist/index.node.js'
import type { Figure, Setting } from './main.ts'
import { measure } from './measure.ts'

const methods = [
  { method: 'rtn', runs: 5 },
  { method: 'gptq', runs: 2 },
] as const

/** Quantizes the model with each method into a folder of its own. */
export async function quantizeBenches(setting: Setting): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const { method, runs } of methods) {
    const name = `quantize ${method} w4g128`
    if (!setting.wants(name)) continue
    const out = join(setting.scratch, method)
    const work = async (): Promise<number> => {
      const options = { out, method, scheme: 'w4g128', fresh: true, force: true }
      const report = await quantize(setting.source, options)
      const weights = report.plan.layers.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
      if (report.layers.length !== 28) throw new Error(`${report.layers.length} layers, not 28`)
      return weights
    }
    figures.push(await measure({ name, unit: 'weights', runs, work }))
  }
  return figures
}
