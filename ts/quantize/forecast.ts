/** How long a planned run will take, from its work and what processors were measured to do. */

/**
 * Units (2²⁰ multiply-adds) that one thread does in a second, by instruction set: AWQ over 32 × 256
 * tokens on novels-4m takes 56,029 of them, and 2.4 s of processor time on an EPYC with AVX-512.
 * Sets that nobody has measured have no row, and then nothing is forecast.
 */
const UNITS_PER_SECOND: Readonly<Record<string, number>> = {
  avx512: 23_000,
}

/** Seconds for so many units, where there is something to judge by. */
export function forecastSeconds(units: number, isa: string, threads: number): number | undefined {
  const rate = UNITS_PER_SECOND[isa]
  return rate === undefined ? undefined : units / (rate * threads)
}
