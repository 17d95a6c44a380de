/** SHA-256 in pieces, for browsers: theirs wants the whole file at once. FIPS 180-4. */
import type { Hash } from './host.ts'

/** First 32 bits of the fractional parts of the cube roots of the first 64 primes (§4.2.2). */
const K: Uint32Array = fractions(64, Math.cbrt)
/** The same of the square roots of the first 8 (§5.3.3). */
const START: Uint32Array = fractions(8, Math.sqrt)

/** Starts a digest. */
export function sha256(): Hash {
  const state = START.slice()
  const block = new Uint8Array(64)
  let bytes = 0

  function update(data: Uint8Array): void {
    for (let done = 0; done < data.length;) {
      const filled = bytes % 64
      const part = data.subarray(done, done + 64 - filled)
      block.set(part, filled)
      done += part.length
      bytes += part.length
      if (bytes % 64 === 0) compress(state, block)
    }
  }

  function hex(): string {
    const bits = BigInt(bytes) * 8n
    update(Uint8Array.of(0x80))
    update(new Uint8Array((120 - (bytes % 64)) % 64))
    const length = new Uint8Array(8)
    new DataView(length.buffer).setBigUint64(0, bits)
    update(length)
    return Array.from(state, (word) => word.toString(16).padStart(8, '0')).join('')
  }

  return { update, hex }
}

const words = new Uint32Array(64)

/** §6.2.2. */
function compress(state: Uint32Array, block: Uint8Array): void {
  const view = new DataView(block.buffer)
  for (let t = 0; t < 16; t++) words[t] = view.getUint32(t * 4)
  for (let t = 16; t < 64; t++) {
    const [w15, w2] = [at(words, t - 15), at(words, t - 2)]
    const s0 = rotr(w15, 7) ^ rotr(w15, 18) ^ (w15 >>> 3)
    const s1 = rotr(w2, 17) ^ rotr(w2, 19) ^ (w2 >>> 10)
    words[t] = at(words, t - 16) + s0 + at(words, t - 7) + s1
  }
  // The letters a to h of the standard, in this order.
  const v = state.slice()
  for (let t = 0; t < 64; t++) {
    const [a, b, c, e] = [at(v, 0), at(v, 1), at(v, 2), at(v, 4)]
    const s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)
    const first = at(v, 7) + s1 + ((e & at(v, 5)) ^ (~e & at(v, 6))) + at(K, t) + at(words, t)
    const s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)
    v.copyWithin(1, 0)
    v[4] = at(v, 4) + first
    v[0] = first + s0 + ((a & b) ^ (a & c) ^ (b & c))
  }
  for (const [i, value] of v.entries()) state[i] = at(state, i) + value
}

function at(list: Uint32Array, i: number): number {
  return list[i] ?? 0
}

function rotr(x: number, n: number): number {
  return (x >>> n) | (x << (32 - n))
}

function fractions(count: number, root: (x: number) => number): Uint32Array {
  const primes: number[] = []
  for (let n = 2; primes.length < count; n++) if (primes.every((p) => n % p !== 0)) primes.push(n)
  return Uint32Array.from(primes, (p) => (root(p) % 1) * 2 ** 32)
}
