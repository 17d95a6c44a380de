/** Converted layers summed up by the last part of their names and what became of them. */
import type { ConvertedModule, PlannedModule } from './report.ts'

/** One row each: part, count, before, after, values, largest relative error. */
export function kindsOf(
  layers: readonly (PlannedModule | ConvertedModule)[],
): readonly (readonly string[])[] {
  const kinds = new Map<string, { count: number; error: number | undefined }>()
  for (const layer of layers) {
    const part = layer.name.split('.').at(-1) ?? layer.name
    const key = [part, layer.from, layer.scheme, layer.how].join('\n')
    const { count = 0, error } = kinds.get(key) ?? {}
    const own = 'relativeError' in layer ? layer.relativeError : undefined
    kinds.set(key, {
      count: count + 1,
      error: own === undefined ? error : Math.max(own, error ?? 0),
    })
  }
  return Array.from(kinds, ([key, { count, error }]) => {
    const [part = '', from = '', to = '', how = ''] = key.split('\n')
    return [part, `${count}`, from, to, how, error === undefined ? '' : shown(error)]
  })
}

/** Reasons for what is not exact, each with the number of layers that it is true of. */
export function reasonsOf(layers: readonly (PlannedModule | ConvertedModule)[]): readonly string[] {
  const counts = new Map<string, number>()
  for (const { how, why = '' } of layers) {
    if (how === 'exact' || why === '') continue
    // Numbers differ from layer to layer.
    const reason = `${how}: ${why.replaceAll(/(?<=point |code )-?\d+(?:\.\d+)?/g, '…')}`
    counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return Array.from(counts, ([reason, count]) => `${reason} (${count} layers)`)
}

function shown(error: number): string {
  if (error === 0) return '0'
  return error < 1e-4 ? error.toExponential(1) : error.toFixed(4)
}
