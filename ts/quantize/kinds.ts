/** Layers summed up by the last part of their names, method and scheme. */
import type { LayerReport } from './report.ts'

/** One row each: part, count, method, scheme, mean and largest relative error. */
export function kindsOf(layers: readonly LayerReport[]): readonly (readonly string[])[] {
  const kinds = new Map<string, LayerReport[]>()
  for (const layer of layers) {
    const part = layer.name.split('.').at(-1) ?? layer.name
    const key = `${part}\n${layer.method}\n${layer.scheme}`
    kinds.set(key, [...(kinds.get(key) ?? []), layer])
  }
  return Array.from(kinds, ([key, found]) => {
    const [part = '', method = '', scheme = ''] = key.split('\n')
    const errors = found.map(({ relativeError }) => relativeError)
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
    const largest = Math.max(...errors)
    return [part, `${found.length}`, method, scheme, mean.toFixed(4), largest.toFixed(4)]
  })
}
