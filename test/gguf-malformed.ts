/** Every way in which a GGUF file can be wrong that the record of its readers knows, as bytes. */
import type { ErrorCode } from '../ts/error.ts'
import { number, string } from './gguf-writer.ts'

/** A file and the code that opening it must give. */
export interface Wrong {
  /** Number in the list of malformed inputs, and what it is. */
  readonly name: string
  readonly code: ErrorCode | 'ok'
  readonly bytes: Uint8Array
}

const MAX = -1n
const TERA = 2n ** 60n

interface Parts {
  readonly version?: number
  readonly tensors?: bigint | number
  readonly keys?: bigint | number
  readonly body?: readonly Buffer[]
  /** Bytes of data behind the padding of the header. */
  readonly data?: number
}

function file({ version = 3, tensors = 0, keys = 0, body = [], data }: Parts): Buffer {
  const head = [Buffer.from('GGUF'), number(4, version), number(8, tensors), number(8, keys)]
  const bytes = Buffer.concat([...head, ...body])
  if (data === undefined) return bytes
  const padding = (32 - (bytes.length % 32)) % 32
  return Buffer.concat([bytes, Buffer.alloc(padding + data)])
}

function key(name: string, type: number, value: Buffer): Buffer {
  return Buffer.concat([string(name), number(4, type), value])
}

function array(type: number, count: bigint | number, values: Buffer = Buffer.alloc(8)): Buffer {
  return key('a', 9, Buffer.concat([number(4, type), number(8, count), values]))
}

/** Dimensions innermost first, as in the file. */
function info(
  dims: readonly (bigint | number)[],
  type = 0,
  at: bigint | number = 0,
  name = 't',
): Buffer {
  const sizes = dims.map((dim) => number(8, dim))
  return Buffer.concat([
    string(name),
    number(4, dims.length),
    ...sizes,
    number(4, type),
    number(8, at),
  ])
}

const keyed = (...body: Buffer[]): Buffer => file({ keys: body.length, body })
const tensors = (data: number, ...body: Buffer[]): Buffer =>
  file({ tensors: body.length, body, data })

/** A file whose keys are read as a model's. */
function model(...infos: Buffer[]): Buffer {
  const keys = [
    key('general.architecture', 8, string('llama')),
    ...[
      ['block_count', 2],
      ['context_length', 32],
      ['embedding_length', 8],
      ['feed_forward_length', 16],
      ['attention.head_count', 2],
    ].map(([name, value]) => key(`llama.${name}`, 4, number(4, Number(value)))),
  ]
  return file({ keys: keys.length, tensors: infos.length, body: [...keys, ...infos], data: 32 })
}

const alignment = (type: number, value: Buffer): Buffer =>
  keyed(key('general.alignment', type, value))

/** Nested arrays, about twelve bytes for each level. */
const nested = Buffer.concat([
  string('a'),
  number(4, 9),
  ...Array.from({ length: 100_000 }, () => Buffer.concat([number(4, 9), number(8, 1)])),
])

const FILES: readonly (readonly [string, ErrorCode | 'ok', Buffer])[] = [
  ['G1: 2^64 - 1 keys', 'count-limit', file({ keys: MAX })],
  ['G1: 2^60 keys', 'count-limit', file({ keys: TERA })],
  ['G1: more keys than bytes', 'truncated', file({ keys: 60_000 })],
  ['G2: -1 tensors', 'count-limit', file({ tensors: MAX })],
  ['G2: more tensors than bytes', 'truncated', file({ tensors: 900_000 })],
  ['G3: dimensions whose product wraps', 'shape', tensors(32, info([2n ** 32n, 2n ** 32n]))],
  ['G4: a string of 2^64 - 1 bytes', 'string-limit', keyed(key('a', 8, number(8, MAX)))],
  ['G4: a key of 2^64 - 1 bytes', 'string-limit', keyed(number(8, MAX))],
  ['G5: 2^61 strings', 'array-limit', keyed(array(8, 2n ** 61n))],
  ['G5: more values than bytes', 'truncated', keyed(array(4, 3))],
  ['G6: five dimensions', 'rank', tensors(32, info([1, 1, 1, 1, 1]))],
  ['G6: 2^32 - 1 dimensions', 'rank', tensors(32, Buffer.concat([string('t'), number(4, -1)]))],
  ['G7: type -1', 'dtype', tensors(32, info([8], -1))],
  ['G7: type 99', 'dtype', tensors(32, info([8], 99))],
  ['G7: a type that was removed', 'dtype', tensors(32, info([8], 4))],
  [
    'G8: sizes whose sum wraps',
    'data-limit',
    tensors(32, ...[0n, 1n, 2n, 3n].map((i) => info([TERA], 0, i * 2n ** 62n, `t${i}`))),
  ],
  ['G9: data behind the end of numbers', 'truncated', tensors(32, info([2n ** 62n - 1n], 25))],
  ['G10: bytes that wrap though values do not', 'shape', tensors(32, info([2n ** 63n - 1n]))],
  ['G11: a tensor whose padding wraps', 'shape', tensors(32, info([MAX], 24))],
  ['G12: alignment 0', 'alignment', alignment(4, number(4, 0))],
  ['G12: alignment 13', 'alignment', alignment(4, number(4, 13))],
  ['G12: alignment 2^31', 'alignment', alignment(4, number(4, 2 ** 31))],
  ['G12: alignment of another type', 'alignment', alignment(8, string('32'))],
  ['G13: data behind the end of the file', 'truncated', tensors(64, info([64]))],
  ['G14: a gap', 'hole', tensors(64, info([8]), info([8], 0, 64, 'u'))],
  ['G14: an overlap', 'overlap', tensors(64, info([8]), info([8], 0, 16, 'u'))],
  ['G14: bytes behind the last', 'trailing-bytes', tensors(64, info([8]))],
  ['G15: cut in the header', 'truncated', file({}).subarray(0, 17)],
  ['G15: cut in a key', 'truncated', keyed(key('a', 4, Buffer.alloc(3)))],
  ['G15: cut in a tensor', 'truncated', file({ tensors: 1, body: [info([8]).subarray(0, 20)] })],
  ['G16: arrays in arrays', 'nesting', keyed(nested)],
  ['G18: an array of 2^59 values', 'array-limit', keyed(array(12, 2n ** 59n))],
  ['G19: a key twice', 'duplicate-key', keyed(...Array.from({ length: 2 }, () => array(4, 0)))],
  ['G19: a tensor twice', 'duplicate-key', tensors(64, info([8]), info([8], 0, 32))],
  ['G20: a row that is no whole block', 'block', tensors(32, info([33], 2))],
  ['G22: version 0', 'version', file({ version: 0 })],
  ['G22: version 1', 'version', file({ version: 1 })],
  ['G22: version 4', 'version', file({ version: 4 })],
  ['G22: bytes swapped', 'version', file({ version: 3 << 24 })],
  ['G23: a block that the model does not have', 'name', model(named('blk.2.attn_v.weight'))],
  ['G23: a number that wraps', 'name', model(named('blk.4294967296.attn_v.weight'))],
  ['G24: a token of 2^32 bytes', 'string-limit', keyed(array(8, 1, number(8, 2n ** 32n)))],
  ['G28: an array of unknown values', 'metadata', keyed(array(13, 1))],
  ['G28: a value of an unknown type', 'metadata', keyed(key('a', 14, Buffer.alloc(8)))],
]

function named(name: string): Buffer {
  return info([8], 0, 0, name)
}

/** Every malformed file, and one with a dimension of 0, which is fine (G21). */
export function malformedGguf(): readonly Wrong[] {
  const layers = (count: number): Buffer => {
    const flags = Buffer.concat([number(4, 7), number(8, count), Buffer.alloc(count)])
    return key('gemma3.attention.sliding_window_pattern', 9, flags)
  }
  const gemma = ['block_count', 'context_length', 'embedding_length', 'feed_forward_length']
  const sizes = [...gemma, 'attention.head_count'].map((name) =>
    key(`gemma3.${name}`, 4, number(4, 2)),
  )
  const architecture = key('general.architecture', 8, string('gemma3'))
  const text = key('llama.block_count', 8, string('2'))
  const more: readonly (readonly [string, ErrorCode | 'ok', Buffer])[] = [
    [
      'G17: sizes as text',
      'metadata',
      keyed(key('general.architecture', 8, string('llama')), text),
    ],
    ['G21: a dimension of 0', 'ok', model(info([0, 7]), info([8], 0, 0, 'u'))],
    ['G25: flags for more layers', 'metadata', keyed(architecture, ...sizes, layers(9))],
  ]
  return [...FILES, ...more].map(([name, code, bytes]) => ({ name, code, bytes }))
}
