/** One row for each modifier of llm-compressor that is done here, with its keys. */
import type { Json } from '../bytes.ts'
import { quote } from '../error.ts'
import { leftOut } from './foreign-mappings.ts'
import { listOf, refuse, type Translating } from './foreign-parts.ts'
import { gptqSettings, rounder } from './foreign-rounders.ts'
import type { ModifierForm } from './form.ts'

/** How one modifier is read. */
export interface ForeignRow {
  /** Keys that are followed. */
  readonly used: readonly string[]
  /** Keys that may hold these values only; null is as good as absent. */
  readonly only?: Readonly<Record<string, readonly unknown[]>>
  /** Keys that do not change the result. */
  readonly harmless?: readonly string[]
  /** Modifiers of ours with the same effect. */
  readonly to: (args: Json, at: Translating) => readonly ModifierForm[]
}

const QUANT_USED = [
  'config_groups',
  'targets',
  'ignore',
  'scheme',
  'weight_observer',
  'observer',
  'kv_cache_scheme',
]

const QUANT_ONLY = {
  output_observer: [],
  input_observer: ['minmax', 'memoryless_minmax', 'static_minmax'],
} as const

const QUANT_HARMLESS = [
  'bypass_divisibility_checks',
  'disable_quantization_observer_epoch',
  'num_calibration_steps',
]

const SPARSE_ONLY = {
  sparsity_profile: [],
  owl_m: [],
  owl_lmbda: [],
  preserve_sparsity_mask: [false],
} as const

/** Every modifier that is done here. */
export const FOREIGN: Readonly<Record<string, ForeignRow>> = {
  QuantizationModifier: {
    used: QUANT_USED,
    only: QUANT_ONLY,
    harmless: QUANT_HARMLESS,
    to: (args, at) => [{ rtn: rounder(args, at) }],
  },
  GPTQModifier: {
    used: [...QUANT_USED, 'block_size', 'dampening_frac', 'actorder'],
    only: QUANT_ONLY,
    harmless: [
      ...QUANT_HARMLESS,
      'batched_quantization',
      'sequential_update',
      'sequential_targets',
      'offload_hessians',
    ],
    to: (args, at) => [{ gptq: { ...rounder(args, at), ...gptqSettings(args, at) } }],
  },
  AWQModifier: {
    used: [...QUANT_USED, 'mappings', 'duo_scaling', 'n_grid'],
    only: QUANT_ONLY,
    harmless: [...QUANT_HARMLESS, 'offload_device', 'sequential_targets', 'max_chunk_memory'],
    to: awq,
  },
  SmoothQuantModifier: {
    used: ['smoothing_strength', 'mappings', 'ignore'],
    only: { algorithm: ['smoothquant'], calibration_function: [] },
    harmless: ['num_calibration_steps'],
    to: (args, at) => {
      const ignore = [...listOf(args['ignore']), ...mapped('smoothquant', args, at)]
      const strength = args['smoothing_strength'] ?? 0.5
      return [{ smoothquant: { strength, ...someOf({ ignore }) } }]
    },
  },
  SpinQuantModifier: {
    used: ['rotations', 'transform_type'],
    only: {
      randomize: [false],
      learnable: [false],
      transform_block_size: [],
      transform_config: [],
    },
    harmless: ['precision'],
    to: rotate,
  },
  SparseGPTModifier: {
    used: ['sparsity', 'mask_structure', 'targets', 'ignore'],
    only: SPARSE_ONLY,
    harmless: [
      'sequential_update',
      'sequential_targets',
      'offload_hessians',
      'block_size',
      'dampening_frac',
    ],
    to: (args, at) => [{ sparsegpt: pruning(args, at) }],
  },
  WandaPruningModifier: {
    used: ['sparsity', 'mask_structure', 'targets', 'ignore'],
    only: SPARSE_ONLY,
    harmless: ['sequential_update', 'sequential_targets'],
    to: (args, at) => [{ wanda: pruning(args, at) }],
  },
  MagnitudePruningModifier: {
    used: ['final_sparsity', 'mask_structure', 'targets'],
    only: { apply_globally: [false] },
    harmless: ['init_sparsity', 'update_scheduler', 'scheduler_args', 'leave_enabled'],
    to: (args, at) => [{ magnitude: pruning({ ...args, sparsity: args['final_sparsity'] }, at) }],
  },
  // Weights that were pruned stay zero here anyway.
  ConstantPruningModifier: { used: [], harmless: ['targets'], to: () => [] },
}

/** Modifiers that are known and not done, with the reason. */
export const REFUSED: Readonly<Record<string, string>> = {
  AutoRoundModifier: 'it learns by gradient descent',
  QuIPModifier: 'its rotations stay in the model and few engines have them',
  LogarithmicEqualizationModifier: 'use SmoothQuantModifier',
  REAPPruningModifier: 'experts are not removed',
}

/** With a scheme of its own, as before 0.10, it rounds too. */
function awq(args: Json, at: Translating): readonly ModifierForm[] {
  const ignore = mapped('awq', args, at)
  const { duo_scaling: duo = true, n_grid: grid = 20, scheme, config_groups: groups } = args
  if (duo === 'both') at.notes.push('duo_scaling "both" is searched with duo scales only')
  const settings = {
    duo: duo !== false,
    grid,
    clip: false,
    ...someOf({ ignore }),
  }
  const rounds = (scheme ?? groups ?? undefined) !== undefined
  return [{ awq: settings }, ...(rounds ? [{ rtn: rounder(args, at) }] : [])]
}

function mapped(method: 'awq' | 'smoothquant', args: Json, at: Translating): readonly string[] {
  const { mappings } = args
  if (mappings === undefined || mappings === null) return []
  const left = leftOut(method, mappings)
  if (left) return left
  throw refuse(
    at,
    'mappings',
    'these mappings are not known here',
    'leave them out: each architecture has its own',
  )
}

function rotate(args: Json, at: Translating): readonly ModifierForm[] {
  const rotations = listOf(args['rotations'] ?? ['R1', 'R2']).map((one) => one.toUpperCase())
  const online = rotations.find((one) => one !== 'R1' && one !== 'R2')
  if (online !== undefined)
    throw refuse(
      at,
      'rotations',
      `${online} stays in the model and few engines have it`,
      'use R1 and R2',
    )
  const { transform_type: type = 'hadamard' } = args
  if (type !== 'hadamard' && type !== 'random-hadamard') {
    throw refuse(
      at,
      'transform_type',
      `${quote(String(type))} is not done here`,
      'use hadamard or random-hadamard',
    )
  }
  return [
    {
      rotate: {
        r1: rotations.includes('R1'),
        r2: rotations.includes('R2'),
        random: type !== 'hadamard',
      },
    },
  ]
}

/** Targets that mean every linear of every block. */
const ALL =
  /^(Linear|__ALL__|__ALL_PRUNABLE__|re:\.\*weight|re:(\.\*|model\\?\.)*layers\\?\.(\\d[*+]|\.\*)\$?)$/

function pruning(args: Json, at: Translating): Readonly<Record<string, unknown>> {
  const { sparsity, mask_structure: mask, targets } = args
  const part = listOf(targets ?? 'Linear').find((one) => !ALL.test(one))
  if (part !== undefined) {
    throw refuse(at, 'targets', `only ${quote(part)} would be pruned`, 'name what stays in ignore')
  }
  const ignore = listOf(args['ignore'])
  return { sparsity: structured(mask, at) ?? share(sparsity, at), ...someOf({ ignore }) }
}

/** `2:4`, or nothing for weights that are pruned one by one. */
function structured(mask: unknown, at: Translating): string | undefined {
  const structure = typeof mask === 'string' ? mask : '0:0'
  if (structure === '0:0' || structure === 'unstructured') return undefined
  if (/^\d+:\d+$/.test(structure)) return structure
  throw refuse(at, 'mask_structure', `${quote(structure)} is not done here`, 'use n:m')
}

function share(sparsity: unknown, at: Translating): number {
  if (typeof sparsity === 'number' && sparsity > 0 && sparsity < 1) return sparsity
  throw refuse(at, 'sparsity', 'one share is done here', 'as in sparsity: 0.5')
}

/** A list under its key, if it holds something. */
function someOf<T extends Readonly<Record<string, readonly string[]>>>(lists: T): Partial<T> {
  const [list = []] = Object.values(lists)
  return list.length > 0 ? lists : {}
}
