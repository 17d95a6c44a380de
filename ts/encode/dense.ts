/**
 * A `Dense` module of sentence-transformers, which stands behind the pooling: `f(W · v + b)`, in a
 * folder of its own with `config.json` and `model.safetensors`.
 */
import type { Binding } from '../binding.ts'
import { floatsOf, type Json, objectOf, textOf } from '../bytes.ts'
import { openCheckpoint, readTensor } from '../checkpoint.ts'
import { LowbitError } from '../error.ts'
import { isGuarded, readLimited, type Store } from '../store/store.ts'

/** A layer over a whole vector. */
export interface Dense {
  /** `[outputs, inputs]`, row by row. */
  readonly weight: Float32Array
  /** Zeros where the module has none. */
  readonly bias: Float32Array
  readonly activation: (value: number) => number
  /** The folder, for messages. */
  readonly place: string
}

/** Files with weights of modules, which belong to the texts of a model rather than to its tensors. */
export const MODULE_WEIGHTS: RegExp = /^\d+_\w+\/model\.safetensors$/

const CONFIG_BYTES_MAX = 1 << 20

/** Activations by the last part of their name in torch. */
const ACTIVATIONS: Readonly<Record<string, (x: number) => number>> = {
  Identity: (x) => x,
  ReLU: (x) => Math.max(x, 0),
  SiLU: (x) => x / (1 + Math.exp(-x)),
  Sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  Tanh: Math.tanh,
}

/**
 * Reads the module in a folder of a store; `unsupported` for an activation or an input that is not
 * computed, `shape` for a weight that its config does not describe.
 */
export async function readDense(binding: Binding, store: Store, path: string): Promise<Dense> {
  const place = `${store.place}/${path}`
  const name = `${path}/config.json`
  const text = textOf(await readLimited(store, name, CONFIG_BYTES_MAX), 'config', place)
  const config = objectOf(text, 'config', place)
  const activation = activationOf(config, place)
  const file = `${path}/model.safetensors`
  if (isGuarded(store)) await store.guard(file)
  const tensors = await openCheckpoint(binding, { store, file })
  const floats = async (tensor: string, shape: readonly unknown[]): Promise<Float32Array> => {
    const bytes = await readTensor(tensors, tensor)
    const { shape: found = [], dtype = '' } = tensors.tensors.get(tensor) ?? {}
    if (found.join() !== shape.join()) {
      const what = `${tensor} is [${found.join(', ')}], not [${shape.join(', ')}]`
      throw new LowbitError('shape', what, { place })
    }
    return floatsOf(dtype, bytes, place)
  }
  const { in_features: inputs, out_features: outputs, bias = true } = config
  const weight = await floats('linear.weight', [outputs, inputs])
  const added = bias === true ? await floats('linear.bias', [outputs]) : undefined
  return { weight, bias: added ?? new Float32Array(Number(outputs)), activation, place }
}

function activationOf(config: Json, place: string): (value: number) => number {
  const { activation_function: named = 'Tanh', module_input_name: input } = config
  if (input !== undefined && input !== 'sentence_embedding') {
    throw new LowbitError('unsupported', `A Dense module over ${JSON.stringify(input)}`, {
      place,
      remedy: 'computed are those over the pooled vector',
    })
  }
  const name = typeof named === 'string' ? (named.split('.').at(-1) ?? '') : ''
  const found = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined
  if (found) return found
  throw new LowbitError('unsupported', `Activation ${JSON.stringify(named)}`, {
    place,
    remedy: `computed are ${Object.keys(ACTIVATIONS).join(', ')}`,
  })
}

/** `f(W · v + b)`, summed in f64; `shape` for a vector of another length. */
export function applyDense(
  { weight, bias, activation, place }: Dense,
  v: Float32Array,
): Float32Array {
  const inputs = weight.length / bias.length
  if (v.length !== inputs) {
    throw new LowbitError('shape', `A Dense module takes ${inputs} values, not ${v.length}`, {
      place,
      remedy: "leave pooling to the model's own files",
    })
  }
  return bias.map((added, row) => {
    const start = row * inputs
    let sum = added
    for (let i = 0; i < inputs; i += 1) sum += (weight[start + i] ?? 0) * (v[i] ?? 0)
    return activation(sum)
  })
}

/** A vector over its length; zeros stay zeros. */
export function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, v) => sum + v * v, 0))
  return vector.map((v) => v / Math.max(length, 1e-12))
}
