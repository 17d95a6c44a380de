/**
 * The `quantization_config` of a compressed-tensors checkpoint, as far as `inspect` shows it.
 * Only what is printed is decided here; the core reads the same text for everything else.
 */
import { isObject, type Json } from './bytes.ts'
import type { TensorPlace } from './checkpoint.ts'

/** How a checkpoint says it is quantized. */
export interface QuantizationConfig {
  readonly format: string
  /** Schemes, and the modules that have them: class names, names, or `re:` and an expression. */
  readonly groups: readonly {
    readonly scheme: string
    readonly bits: number
    readonly targets: readonly string[]
  }[]
}

/** Suffix of a packed matrix, and of everything that goes with it. */
const CODES = '.weight_packed'
const PART = /\.weight_(packed|scale|zero_point|shape|g_idx)$/

/** The quantization that a config announces; nothing for an original. */
export function quantizationOf(config: Json): QuantizationConfig | undefined {
  const json = config['quantization_config']
  if (!isObject(json)) return undefined
  const groups = isObject(json['config_groups']) ? Object.values(json['config_groups']) : []
  const method = json['format'] ?? json['quant_method']
  return {
    format: typeof method === 'string' ? method : 'unknown',
    groups: groups.filter(isObject).flatMap((group) => {
      const weights = group['weights']
      if (!isObject(weights)) return []
      const targets: readonly unknown[] = Array.isArray(group['targets']) ? group['targets'] : []
      const names = targets.filter((target) => typeof target === 'string')
      return [{ scheme: schemeName(weights), bits: Number(weights['num_bits']), targets: names }]
    }),
  }
}

/** The scheme of the matrix that a tensor is part of; null when it is part of none. */
export function schemeOf(
  tensor: TensorPlace,
  quantization: QuantizationConfig | undefined,
): string | null {
  return groupOf(tensor, quantization)?.scheme ?? null
}

/** Whether a tensor holds the codes of a matrix. */
export function isCodes(name: string): boolean {
  return name.endsWith(CODES)
}

/** Weights of the original that a tensor stands for; scales and zero points stand for none. */
export function weightsOf(
  tensor: TensorPlace,
  quantization: QuantizationConfig | undefined,
): number {
  const group = groupOf(tensor, quantization)
  const count = tensor.shape.reduce((product, dim) => product * dim, 1)
  if (!group) return count
  return isCodes(tensor.name) ? count * Math.floor(32 / group.bits) : 0
}

function groupOf(
  tensor: TensorPlace,
  quantization: QuantizationConfig | undefined,
): QuantizationConfig['groups'][number] | undefined {
  if (!quantization || !PART.test(tensor.name)) return undefined
  const module = tensor.name.replace(PART, '')
  const { groups } = quantization
  // A group of names is more special than one of a class, which stands for every linear layer.
  return (
    groups.find((group) => group.targets.some((t) => isNamed(module, t))) ??
    groups.find((group) => group.targets.some((t) => /^[A-Z]\w*$/.test(t)))
  )
}

function isNamed(module: string, target: string): boolean {
  if (!target.startsWith('re:')) return module === target
  // A repeated group can take exponential time, and the expression is a stranger's.
  if (/\)[*+?{]/.test(target)) return false
  try {
    return new RegExp(`^(?:${target.slice(3)})`).test(module)
  } catch {
    return false
  }
}

/** `w4g128-asym`, as the core prints it. */
function schemeName(weights: Json): string {
  const group = weights['group_size']
  const run = typeof group === 'number' && group > 0 ? `g${group}` : ''
  return `w${String(weights['num_bits'])}${run}${weights['symmetric'] === false ? '-asym' : ''}`
}
