/** Numbers that look random and are the same for the same seed on every machine. */

/** Mixes 32 bits so that each of them depends on all of them; the finalizer of MurmurHash3. */
export function mix(value: number): number {
  let hash = value | 0
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** 32 bits of a text; FNV-1a over its code units. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash)
}

/** A number from 0 to 1 that belongs to a seed and an index. */
export function priorityOf(seed: number, index: number): number {
  const high = mix(mix(seed) ^ mix(index + 0x9e3779b9))
  const low = mix(high ^ Math.floor(seed / 2 ** 32) ^ index)
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53
}
