/**
 * Peak memory of quantizing a Llama of 1.1 billion parameters, 16 × 512 tokens, and how it grows
 * with the number of layers.
 *   node bench/peers/memory.ts [--layers 11,22] [--flags '--method gptq'] [--record]
 * Needs `npm run build`, 6 GB of disk, and a system with /proc.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BILLION, makeLlama } from './llama.ts'
import { CALIBRATION, lowbit, machine, markdown, record } from './tools.ts'

/** What the process may hold at most, and how much more for twice the layers. */
const BYTES_MAX = 2e9
const GROWTH_MAX = 0.05

interface Measured {
  readonly layers: number
  readonly peakBytes: number
  /** What the plan said. */
  readonly planned: number
  readonly seconds: number
}

async function measure(layers: number, flags: readonly string[]): Promise<Measured> {
  const scratch = mkdtempSync(join(tmpdir(), 'lowbit-memory-'))
  try {
    const model = join(scratch, 'model')
    await makeLlama(model, { ...BILLION, layers })
    const size = ['--calibration', CALIBRATION, '--samples', '16', '--length', '512', '--json']
    const ran = await lowbit('quantize', model, '-o', join(scratch, 'out'), ...flags, ...size)
    if (ran.code !== 0) throw new Error(ran.err.trim().slice(-500))
    const report: { plan: { memoryPeakBytes: number } } = JSON.parse(ran.out)
    const { peakBytes, seconds } = ran
    return { layers, peakBytes, planned: report.plan.memoryPeakBytes, seconds }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

const { values } = parseArgs({
  options: {
    layers: { type: 'string', default: '11,22' },
    flags: { type: 'string', default: '--method gptq' },
    record: { type: 'boolean', default: false },
  },
})
const results: Measured[] = []
for (const layers of values.layers.split(',').map(Number)) {
  results.push(await measure(layers, values.flags.split(' ').filter(Boolean)))
  console.error(JSON.stringify(results.at(-1)))
}
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(3)} GB`
const table = markdown([
  ['layers', 'peak of the process', 'peak in the plan', 'time'],
  ...results.map(({ layers, peakBytes, planned, seconds }) => [
    `${layers}`,
    gigabytes(peakBytes),
    gigabytes(planned),
    `${seconds.toFixed(0)} s`,
  ]),
])
const [least, most] = [results[0], results.at(-1)]
const growth = least && most ? most.peakBytes / least.peakBytes - 1 : Number.NaN
const verdict = `${(most?.peakBytes ?? Infinity) < BYTES_MAX ? 'Below' : 'NOT below'} ${gigabytes(BYTES_MAX)}, ${growth < GROWTH_MAX ? 'flat' : 'NOT flat'} in the number of layers (${(growth * 100).toFixed(1)} %).\n`
console.log(`${table}\n${verdict}`)
if (values.record) {
  const { processor, threads } = machine()
  const head = `# Memory of quantizing 1.1 billion parameters

\`node bench/peers/memory.ts --record\` on ${processor}, ${threads} threads: a Llama with random weights (hidden 2048, MLP 5632),
${values.flags}, 16 × 512 tokens, the resident peak of the whole process.

`
  record('memory', { flags: values.flags, results }, `${head}${table}\n${verdict}`)
}
