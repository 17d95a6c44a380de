/** Schemes as compressed-tensors describes them, to our names. */
import { isObject, type Json } from '../bytes.ts'

/** Names of presets and our schemes for them; the core's catalog has the table. */
export type Presets = ReadonlyMap<string, string>

/** The table of a catalog. */
export function presetsOf(catalog: {
  readonly presets?: readonly { readonly name: string; readonly scheme: string }[]
}): Presets {
  return new Map((catalog.presets ?? []).map(({ name, scheme }) => [name, scheme]))
}

/** The scheme of a preset's name, in any case. */
export function presetScheme(presets: Presets, name: string): string | undefined {
  return presets.get(name.toUpperCase())
}

/** What is wrong with a description, by the key that says it. */
export interface Mismatch {
  readonly key: string
  readonly what: string
}

/** A scheme by its description, or what of it cannot be done. */
export function groupScheme(group: Json): string | Mismatch {
  const { weights, input_activations: inputs, output_activations: outputs } = group
  if (!isObject(weights)) return mismatch('weights', 'there are no weights to quantize')
  if (isObject(outputs)) return mismatch('output_activations', 'outputs are not quantized here')
  const filled = { num_bits: 8, type: 'int', symmetric: true, ...weights }
  if (filled.type === 'int') return joined(`w${filled.num_bits}`, filled, inputs)
  if (filled.num_bits === 4) return smallFloat(filled, inputs)
  const isPlain = filled.num_bits === 8 && !scaleText(filled).includes('uint8')
  return isPlain
    ? joined('fp8', filled, inputs)
    : mismatch('weights', `floats of ${filled.num_bits} bits are not written so here`)
}

/** Element, inputs, group and ending as one name. */
function joined(element: string, weights: Json, inputs: unknown): string | Mismatch {
  const input = isObject(inputs) ? inputText(inputs, weights['type']) : ''
  if (typeof input !== 'string') return input
  const shared = groupText(weights)
  if (typeof shared !== 'string') return shared
  return element + input + shared + (weights['symmetric'] === false ? '-asym' : '')
}

/** FP4 in groups, with scales that are floats of 8 bits. */
function smallFloat(weights: Json, inputs: unknown): string | Mismatch {
  const scale = scaleText(weights)
  if (isObject(inputs)) {
    const local = inputs['dynamic'] === 'local' && inputs['group_size'] === 16
    return local && weights['group_size'] === 16 && scale.includes('float8')
      ? 'nvfp4a4'
      : mismatch('input_activations', 'inputs in 4 bits are written with nvfp4 only')
  }
  if (weights['group_size'] === 16 && scale.includes('float8')) return 'nvfp4'
  if (weights['group_size'] === 32 && scale.includes('uint8')) return 'mxfp4'
  return mismatch('weights', 'floats of 4 bits are in groups of 16 or 32')
}

/** Wrong values of inputs, with the reason. */
const INPUTS: readonly (readonly [(inputs: Json, type: unknown) => boolean, string])[] = [
  [({ num_bits: bits = 8 }) => bits !== 8, 'inputs have 8 bits here'],
  [({ type = 'int' }, own) => type !== own, 'inputs are of the kind of the weights here'],
  [({ symmetric = true }) => symmetric !== true, 'inputs are symmetric here'],
  [({ dynamic = false }) => typeof dynamic !== 'boolean', 'inputs are dynamic or static here'],
  [
    ({ dynamic, strategy }) => dynamic !== true && (strategy ?? 'tensor') !== 'tensor',
    'static inputs have one scale here',
  ],
]

function inputText(inputs: Json, type: unknown): string | Mismatch {
  const wrong = INPUTS.find(([isWrong]) => isWrong(inputs, type))
  if (wrong) return mismatch('input_activations', wrong[1])
  return inputs['dynamic'] === true ? 'a8' : 'a8s'
}

function groupText(weights: Json): string | Mismatch {
  const { strategy, group_size: size, block_structure: block } = weights
  const run = typeof size === 'number' && size > 0 ? `g${size}` : undefined
  const texts: Readonly<Record<string, string | undefined>> = {
    group: run,
    channel: '',
    tensor: 't',
    block: Array.isArray(block) ? `b${block.map(String).join('x')}` : undefined,
  }
  const name = typeof strategy === 'string' ? strategy : run === undefined ? 'tensor' : 'group'
  return texts[name] ?? mismatch('weights', `strategy ${name} is not written so here`)
}

function scaleText(weights: Json): string {
  return JSON.stringify(weights['scale_dtype'] ?? '')
}

function mismatch(key: string, what: string): Mismatch {
  return { key, what }
}
