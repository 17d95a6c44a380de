/** Recipes by name, and methods that are a transform with a rounder. */
import type { ModifierForm, RecipeForm } from './form.ts'

/** A recipe that ships with the package. */
export interface Preset {
  readonly name: string
  /** One sentence: what it is for. */
  readonly about: string
  readonly recipe: RecipeForm
}

function preset(name: string, about: string, ...modifiers: readonly ModifierForm[]): Preset {
  return { name, about, recipe: { lowbit: 1, modifiers } }
}

function inFormat(format: string, { name, about, recipe }: Preset): Preset {
  return { name, about, recipe: { ...recipe, format } }
}

/** Every preset, in the order of `lowbit recipes`. */
export const PRESETS: readonly Preset[] = [
  preset('gptq-w4a16', 'GPTQ, 4 bits in groups of 128: the default.', {
    gptq: { scheme: 'w4g128' },
  }),
  preset('gptq-w4a16-asym', 'The same with zero points: a little better, a little larger.', {
    gptq: { scheme: 'w4g128-asym' },
  }),
  preset(
    'awq-w4a16',
    'AWQ, then round to nearest: quick, and even on text unlike the calibration.',
    { awq: {} },
    { rtn: { scheme: 'w4g128' } },
  ),
  preset(
    'awq-w4a16-asym',
    'The same with zero points, as AWQ was published.',
    { awq: {} },
    { rtn: { scheme: 'w4g128-asym' } },
  ),
  preset(
    'awq-gptq-w4a16',
    'AWQ without clipping, then GPTQ.',
    { awq: { clip: false } },
    { gptq: { scheme: 'w4g128' } },
  ),
  preset(
    'rotate-gptq-w4a16',
    'Hadamard rotations, then GPTQ: at least as good, and better for weights with outliers.',
    { rotate: {} },
    { gptq: { scheme: 'w4g128' } },
  ),
  preset('rtn-w4a16', 'Round to nearest: seconds, no data, the baseline.', {
    rtn: { scheme: 'w4g128' },
  }),
  preset('rtn-mse-w4a16', 'Round to nearest with searched scales: no data.', {
    rtn: { scheme: 'w4g128', observer: 'mse' },
  }),
  preset('hqq-w4', 'HQQ, 4 bits in groups of 64 with zero points: no data.', {
    hqq: { scheme: 'w4g64-asym' },
  }),
  inFormat(
    'bitsandbytes',
    preset('nf4', 'Normal floats of bitsandbytes in blocks of 64: no data.', {
      rtn: { scheme: 'nf4' },
    }),
  ),
  inFormat(
    'bitsandbytes',
    preset('fp4', 'The 4-bit floats of bitsandbytes in blocks of 64: no data.', {
      rtn: { scheme: 'fp4' },
    }),
  ),
  preset('gptq-w8a8', 'GPTQ to int8, inputs to int8 per token: for large batches.', {
    gptq: { scheme: 'w8a8' },
  }),
  preset(
    'smoothquant-gptq-w8a8',
    'SmoothQuant, then GPTQ to int8: for inputs with outliers.',
    { smoothquant: { strength: 0.8 } },
    { gptq: { scheme: 'w8a8' } },
  ),
  preset('fp8-dynamic', 'FP8 weights, inputs to FP8 per token: no data, nearly without loss.', {
    rtn: { scheme: 'fp8a8' },
  }),
  preset(
    'sparsegpt-2of4',
    'SparseGPT: two of every four weights become zero; GPTQ, 4 bits.',
    { sparsegpt: { sparsity: '2:4' } },
    { gptq: { scheme: 'w4g128' } },
  ),
  preset('w4-mixed', '3, 4 and 8 bits where they matter, 4.25 bits per weight together.', {
    gptq: { scheme: 'w4g128', 'target-bpw': 4.25, candidates: ['w3g128', 'w4g128', 'w8g128'] },
  }),
]

/** Methods that are more than a rounder, as `--method` names them. */
export const METHODS: readonly Preset[] = [
  preset('awq', 'AWQ, then round to nearest.', { awq: {} }, { rtn: {} }),
  preset(
    'smoothquant',
    'SmoothQuant, then GPTQ to int8 with int8 inputs.',
    { smoothquant: { strength: 0.8 } },
    { gptq: { scheme: 'w8a8' } },
  ),
]
