/** Whether a model can be cut for tensor parallelism, as engines cut it. */
import type { Json } from '../bytes.ts'
import type { Plan } from './report.ts'
import { schemeParts } from './scheme.ts'

/** One number of ranks. */
export interface Parallel {
  readonly ranks: number
  /** Why not; absent when every part can be cut. */
  readonly why?: string
}

/** Numbers of ranks that people run. */
const RANKS = [1, 2, 4, 8] as const

/** Linears whose inputs are cut, by the last part of their names; of the others, outputs are. */
const BY_INPUTS = new Set(['o_proj', 'down_proj', 'out_proj', 'dense', 'w2', 'fc2'])

/** Bits of the words that codes are packed into. */
const WORD = 32

/** Which numbers of ranks a planned model can be cut for. */
export function parallelOf(plan: Pick<Plan, 'layers'>, config: Json): readonly Parallel[] {
  return RANKS.map((ranks) => {
    const why = ranks === 1 ? undefined : (headsWhy(config, ranks) ?? layersWhy(plan, ranks))
    return why === undefined ? { ranks } : { ranks, why }
  })
}

/** Ranks share out heads; fewer key heads than ranks are repeated. */
function headsWhy(config: Json, ranks: number): string | undefined {
  const heads = numberOf(config, 'num_attention_heads')
  const keys = numberOf(config, 'num_key_value_heads') ?? heads
  if (heads !== undefined && heads % ranks !== 0) return `${heads} heads`
  if (keys !== undefined && keys % ranks !== 0 && ranks % keys !== 0) return `${keys} key heads`
  return undefined
}

function numberOf(config: Json, key: string): number | undefined {
  const value = config[key]
  return typeof value === 'number' && value > 0 ? value : undefined
}

function layersWhy({ layers }: Pick<Plan, 'layers'>, ranks: number): string | undefined {
  for (const layer of layers) {
    const why = layerWhy(layer, ranks)
    if (why !== undefined) return `${layer.name}: ${why}`
  }
  return undefined
}

function layerWhy(layer: Plan['layers'][number], ranks: number): string | undefined {
  const last = layer.name.split('.').at(-1) ?? ''
  const [whole, unit, what] = BY_INPUTS.has(last)
    ? ([layer.cols, columnUnit(layer.scheme), 'columns'] as const)
    : ([layer.rows, rowUnit(layer.scheme), 'rows'] as const)
  if (whole % ranks !== 0) return `${whole} ${what}`
  const part = whole / ranks
  return part % unit === 0 ? undefined : `${part} ${what} of a rank are no multiple of ${unit}`
}

/** Columns that cannot be parted: a group, or a word of codes. */
function columnUnit(scheme: string): number {
  const { bits, group, block } = schemeParts(scheme)
  return group ?? block?.[1] ?? Math.ceil(WORD / bits)
}

/** Rows that cannot be parted: those of a block, or a word of zero points. */
function rowUnit(scheme: string): number {
  const { bits, block, zero } = schemeParts(scheme)
  return block?.[0] ?? (zero === 'int' ? Math.ceil(WORD / bits) : 1)
}
