/** Mappings of SmoothQuant and AWQ as llm-compressor lists them, to the linears they leave out. */
import { isObject } from '../bytes.ts'

/** Linears that are scaled together, by the last part of their names. */
interface Place {
  readonly about: string
  readonly consumers: readonly string[]
}

const NORMS: readonly Place[] = [
  { about: 'attention', consumers: ['q_proj', 'k_proj', 'v_proj'] },
  { about: 'MLP', consumers: ['gate_proj', 'up_proj'] },
]

/** Where each of them scales, in models of the Llama kind. */
const PLACES: Readonly<Record<'smoothquant' | 'awq', readonly Place[]>> = {
  smoothquant: NORMS,
  awq: [
    ...NORMS,
    { about: 'values', consumers: ['o_proj'] },
    { about: 'down', consumers: ['down_proj'] },
  ],
}

/** Patterns of the linears that a list of mappings leaves alone; nothing for one that is not ours. */
export function leftOut(
  method: 'smoothquant' | 'awq',
  mappings: unknown,
): readonly string[] | undefined {
  if (!Array.isArray(mappings)) return undefined
  const places = PLACES[method]
  const found = new Set(mappings.map((mapping) => placeOf(places, mapping)))
  if (found.has(undefined)) return undefined
  return places
    .filter((place) => !found.has(place))
    .map(({ consumers }) => `re:.*(${consumers.join('|')})$`)
}

function placeOf(places: readonly Place[], mapping: unknown): Place | undefined {
  const names = consumersOf(mapping)
  return names && places.find(({ consumers }) => sameNames(names, consumers))
}

/** `[[consumers…], producer]`, or the same with keys. */
function consumersOf(mapping: unknown): readonly string[] | undefined {
  const list: unknown = isObject(mapping)
    ? mapping['balance_layers']
    : Array.isArray(mapping)
      ? mapping[0]
      : undefined
  const patterns: readonly unknown[] = Array.isArray(list) ? list : [list]
  return patterns.every((one) => typeof one === 'string') ? patterns.map(lastName) : undefined
}

/** `q_proj` of `re:.*self_attn\.q_proj$`. */
function lastName(pattern: string): string {
  return /([A-Za-z0-9_]+)\$?$/.exec(pattern)?.[1] ?? pattern
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name))
}
