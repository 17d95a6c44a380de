/** `kv_cache_scheme` of llm-compressor's quantizing modifiers. */
import { isObject, type Json } from '../bytes.ts'
import { quote } from '../error.ts'
import { listText } from '../option-rules.ts'
import { refuse, type Translating } from './foreign-parts.ts'

const KEY = 'kv_cache_scheme'

/** Values that are followed, the default first; keys that are not here do not change scales. */
const KNOWN: Readonly<Record<string, readonly unknown[]>> = {
  num_bits: [8],
  type: ['int', 'float'],
  strategy: ['tensor', 'attn_head'],
  symmetric: [true],
  dynamic: [false],
  group_size: [null],
  block_structure: [null],
  actorder: [null],
  scale_dtype: [null],
  observer: ['minmax', 'static_minmax', 'memoryless_minmax'],
}

const HARMLESS: ReadonlySet<string> = new Set(['zp_dtype', 'observer_kwargs'])

/** The name of the scheme here, if a modifier has one. */
export function cacheOf(args: Json, at: Translating): string | undefined {
  const { [KEY]: scheme } = args
  if (scheme === undefined || scheme === null) return undefined
  if (!isObject(scheme)) throw refuse(at, KEY, `${KEY} holds no keys`, 'expected num_bits and type')
  for (const [key, value] of Object.entries(scheme)) checkKey(key, value, at)
  if (scheme['observer'] !== 'static_minmax') {
    at.notes.push('scales of the KV cache cover the largest magnitudes, not a moving average')
  }
  const element = scheme['type'] === 'float' ? 'fp8' : 'int8'
  return scheme['strategy'] === 'attn_head' ? `${element}-head` : element
}

function checkKey(key: string, value: unknown, at: Translating): void {
  if (HARMLESS.has(key)) return
  const allowed = KNOWN[key]
  if (!allowed) {
    const use = `use ${listText(Object.keys(KNOWN))}`
    throw refuse(at, KEY, `${KEY} has no key ${quote(key)}`, use)
  }
  if (value === null || allowed.includes(value)) return
  const use = `use ${listText(allowed.map((one) => JSON.stringify(one)))}`
  throw refuse(at, KEY, `${KEY}: ${key} ${JSON.stringify(value)} is not done here`, use)
}
