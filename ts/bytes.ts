/** Bytes to text and JSON, with the errors that a stranger's file deserves. */
import { type ErrorCode, LowbitError, quote } from './error.ts'

/** One array of many. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0))
  let done = 0
  for (const part of parts) {
    whole.set(part, done)
    done += part.length
  }
  return whole
}

/** Decodes UTF-8 without a byte order mark; anything else is refused with `code`. */
export function textOf(bytes: Uint8Array, code: ErrorCode, place: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new LowbitError(code, 'The text is not UTF-8', { place, cause })
  }
}

/** Types of plain floats: bytes of a value, and how it is read. */
const FLOATS: Readonly<Record<string, readonly [bytes: number, Read]>> = {
  F32: [4, (view, at) => view.getFloat32(at, true)],
  F16: [2, (view, at) => half(view.getUint16(at, true))],
  BF16: [2, (view, at) => brain(view.getUint16(at, true))],
}

type Read = (view: DataView, at: number) => number

/** Little-endian floats of a tensor of `dtype`; `dtype` for a type that has no plain floats. */
export function floatsOf(dtype: string, bytes: Uint8Array, place: string): Float32Array {
  const row = Object.hasOwn(FLOATS, dtype) ? FLOATS[dtype] : undefined
  if (!row) {
    throw new LowbitError('dtype', `Tensor of type ${quote(dtype)}`, {
      place,
      remedy: `expected ${Object.keys(FLOATS).join(', ')}`,
    })
  }
  const [size, read] = row
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: bytes.length / size }, (_, i) => read(view, i * size))
}

/** `s eeeee mmmmmmmmmm`: IEEE 754's half. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31
  const mantissa = bits & 1023
  const sign = bits >> 15 === 1 ? -1 : 1
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : Number.NaN
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25))
}

/** The upper half of an f32. */
function brain(bits: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, bits << 16)
  return view.getFloat32(0)
}

/** A JSON object: a map from string to whatever the file says. */
export type Json = Readonly<Record<string, unknown>>

/** Parses a JSON object; anything else is refused with `code`. */
export function objectOf(text: string, code: ErrorCode, place: string): Json {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new LowbitError(code, `Not JSON: ${why.slice(0, 200)}`, { place, cause })
  }
  if (isObject(value)) return value
  throw new LowbitError(code, 'Not a JSON object', { place })
}

/** Deepest JSON that is passed on; parsers elsewhere stop at 128. */
const DEPTH_MAX = 100

/** Refuses, with `code`, numbers that are beyond every float and values that are nested too deep. */
export function checkValues(json: Json, code: ErrorCode, place: string): void {
  const open: (readonly [path: string, value: unknown, depth: number])[] = [['', json, 0]]
  for (let next = open.pop(); next; next = open.pop()) {
    const [path, value, depth] = next
    if (typeof value === 'number' && !Number.isFinite(value)) {
      const remedy = 'expected a finite number'
      throw new LowbitError(code, `${path} is beyond every float`, { place, remedy })
    }
    if (typeof value !== 'object' || value === null) continue
    if (depth === DEPTH_MAX) throw new LowbitError(code, 'Nested too deep', { place })
    for (const [key, inner] of Object.entries(value)) {
      open.push([path === '' ? key : `${path}.${key}`, inner, depth + 1])
    }
  }
}

/** Whether a parsed value is a JSON object. */
export function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `1.5 MB`: a size as people read it, in powers of 1000. */
export function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let unit = 0
  let value = bytes
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`
}
