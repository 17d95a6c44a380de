/**
 * Near-duplicates by MinHash: the share of equal minima of many hash functions over the shingles of
 * two texts estimates their Jaccard similarity. Broder, "On the resemblance and containment of
 * documents", 1997, §3; the bands that find candidates are those of Leskovec, Rajaraman and Ullman,
 * "Mining of Massive Datasets", §3.4.
 */
import { unitsOf } from './clean.ts'
import { hashText, mix } from './random.ts'

/** Hash functions, and how many of them make a band; bands find candidates above about .5. */
const HASHES = 64
const BAND = 4
/** Units of a shingle. */
const SHINGLE = 4
/** Similarity from which a text counts as seen; its estimate has a standard error of .05. */
const SIMILAR = 0.75
/** Texts that are remembered; the oldest are forgotten first, so memory is bounded. */
const REMEMBERED = 1 << 16
/** Places of the table of bands. */
const PLACES = 1 << 20

/** Tells texts that are much like one it has seen. */
export class Seen {
  readonly #signatures: Uint32Array[] = []
  /** One more than the number of a signature; 0 where nothing is. */
  readonly #bands = new Uint32Array(PLACES)
  #count = 0

  /** Whether a text like this was seen; if not it is remembered. */
  has(text: string): boolean {
    const signature = signatureOf(text)
    const places = placesOf(signature)
    for (const place of places) {
      const other = this.#signatures[(this.#bands[place] ?? 0) - 1]
      if (other && similarity(signature, other) >= SIMILAR) return true
    }
    const slot = this.#count++ % REMEMBERED
    this.#signatures[slot] = signature
    for (const place of places) this.#bands[place] = slot + 1
    return false
  }
}

/** Minima of every hash function over the shingles of a text. */
function signatureOf(text: string): Uint32Array {
  const units = unitsOf(text.toLowerCase()).map(hashText)
  const signature = new Uint32Array(HASHES).fill(0xffffffff)
  const last = Math.max(units.length - SHINGLE, 0)
  for (let i = 0; i <= last; i++) {
    let shingle = 0
    for (const unit of units.slice(i, i + SHINGLE)) shingle = mix(shingle ^ unit)
    for (let k = 0; k < HASHES; k++) {
      const value = Math.imul(shingle ^ Math.imul(k, 0x9e3779b1), 2 * k + 0x85ebca6b) >>> 0
      if (value < (signature[k] ?? 0)) signature[k] = value
    }
  }
  return signature
}

function placesOf(signature: Uint32Array): readonly number[] {
  return Array.from({ length: HASHES / BAND }, (_, band) => {
    let hash = band
    for (const value of signature.subarray(band * BAND, (band + 1) * BAND)) hash = mix(hash ^ value)
    return hash % PLACES
  })
}

function similarity(a: Uint32Array, b: Uint32Array): number {
  let equal = 0
  for (let k = 0; k < HASHES; k++) if (a[k] === b[k]) equal++
  return equal / HASHES
}
