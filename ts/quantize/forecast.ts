/** How long a planned run will take, from its work and what processors do. */

/** Units (2²⁰ multiply-adds) that one thread does in a second, by instruction set. */
const UNITS_PER_SECOND: Readonly<Record<string, number>> = {
  scalar: 700,
}

/** Seconds for so many units. */
export function forecastSeconds(units: number, isa: string, threads: number): number {
  const rate = UNITS_PER_SECOND[isa] ?? UNITS_PER_SECOND['scalar'] ?? 1
  return units / (rate * threads)
}
