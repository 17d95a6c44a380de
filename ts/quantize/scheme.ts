/** The parts of a scheme's name, as far as loaders ask for them; the core parses and checks it. */

/** What `w4a8g128-asym` says. */
export interface SchemeParts {
  /** `w` for integers, or `fp8`, `nf4`, `fp4`, `mxfp4`, `nvfp4`. */
  readonly element: string
  readonly bits: number
  /** Columns of a group; undefined for rows, tensors and blocks. */
  readonly group: number | undefined
  /** Rows and columns of a block. */
  readonly block: readonly [number, number] | undefined
  /** Inputs are rounded at run time. */
  readonly inputs: boolean
  readonly zero: 'none' | 'int' | 'float'
}

const ELEMENT = /^(?:w(\d)|fp8|nf4|fp4|mxfp4|nvfp4)/
const REST = /^(a8s?|a4)?(?:(?:g|flat)(-?\d+)|b(\d+)x(\d+))?/

/** Elements that are no integers: their bits, and the group when none is written. */
const FLOATS: Readonly<Record<string, readonly [bits: number, group: number | undefined]>> = {
  fp8: [8, undefined],
  nf4: [4, 64],
  fp4: [4, 64],
  mxfp4: [4, 32],
  nvfp4: [4, 16],
}

/** Takes a scheme's name apart. */
export function schemeParts(text: string): SchemeParts {
  const [name = '', width] = ELEMENT.exec(text) ?? []
  const [, inputs, run, rows, cols] = REST.exec(text.slice(name.length)) ?? []
  const [bits, own] = FLOATS[name] ?? [Number(width), undefined]
  const group = run === undefined ? own : Number(run)
  return {
    element: width === undefined ? name : 'w',
    bits,
    group: group !== undefined && group > 0 ? group : undefined,
    block: rows === undefined ? undefined : [Number(rows), Number(cols)],
    inputs: inputs !== undefined,
    zero: zeroOf(text),
  }
}

function zeroOf(text: string): SchemeParts['zero'] {
  if (text.includes('-asym')) return 'int'
  return text.includes('-float') ? 'float' : 'none'
}
