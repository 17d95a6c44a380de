/**
 * Our whole process against the calibration and rounding of llm-compressor, on the same samples, in
 * turns, the median of several runs.
 *   node bench/peers/speed.ts [METHOD…] [--runs 3] [--record]
 * Needs `npm run build` and a Python with the peers (see tools.ts).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BILLION, makeLlama, type Shape } from './llama.ts'
import {
  CALIBRATION,
  lowbit,
  machine,
  markdown,
  median,
  MODEL,
  peersPython,
  readRecord,
  record,
  run,
} from './tools.ts'

/** A method as each side is asked for it, and how many times as fast ours has to be. */
interface Contest {
  readonly name: string
  readonly ours: readonly string[]
  readonly wanted: number
  /** On random weights of this shape instead of novels-4m. */
  readonly shape?: Shape
}

const CONTESTS: readonly Contest[] = [
  { name: 'gptq', ours: ['--method', 'gptq', '--observer', 'minmax'], wanted: 2 },
  { name: 'awq', ours: ['--method', 'awq'], wanted: 5 },
  { name: 'rtn-mse', ours: ['--method', 'rtn', '--observer', 'mse'], wanted: 5 },
  {
    name: 'rtn-mse-1b',
    ours: ['--method', 'rtn', '--observer', 'mse'],
    wanted: 5,
    shape: BILLION,
  },
  { name: 'gptq-mse', ours: ['--method', 'gptq', '--observer', 'mse'], wanted: 5 },
]

interface Result {
  readonly name: string
  readonly ours: readonly number[]
  readonly peer: readonly number[]
  readonly ratio: number
  readonly wanted: number
  readonly error?: string
}

const SAMPLES = 128
const LENGTH = 512
const SIZE = ['--samples', `${SAMPLES}`, '--length', `${LENGTH}`] as const

async function contest(one: Contest, runs: number): Promise<Result> {
  const { name, ours, wanted, shape } = one
  const times = { ours: [] as number[], peer: [] as number[] }
  const scratch = mkdtempSync(join(tmpdir(), 'lowbit-peers-'))
  const model = shape ? join(scratch, 'model') : MODEL
  try {
    if (shape) await makeLlama(model, shape)
    for (let i = 0; i < runs; i++) {
      times.ours.push(await timeOurs(model, ours, join(scratch, 'out')))
      times.peer.push(await timePeer(model, name))
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return { name, ...times, ratio: Number.NaN, wanted, error: why }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  return { name, ...times, ratio: median(times.peer) / median(times.ours), wanted }
}

async function timeOurs(model: string, flags: readonly string[], out: string): Promise<number> {
  const what = ['--scheme', 'w4g128', '--calibration', CALIBRATION, ...SIZE, '--force', '--fresh']
  const { code, err, seconds } = await lowbit('quantize', model, '-o', out, ...flags, ...what)
  if (code !== 0) throw new Error(`lowbit: ${err.trim()}`)
  return seconds
}

async function timePeer(model: string, name: string): Promise<number> {
  const method = name.replace(/-1b$/, '')
  const script = join(import.meta.dirname, 'run_llmcompressor.py')
  const ran = await run(peersPython(), [script, method, model, CALIBRATION, ...SIZE])
  if (ran.code !== 0) throw new Error(`llm-compressor: ${ran.err.trim().slice(-400)}`)
  const answer: { seconds: number } = JSON.parse(ran.out.trim().split('\n').at(-1) ?? '{}')
  return answer.seconds
}

function tableOf(results: readonly Result[]): string {
  const rows = results.map(({ name, ours, peer, ratio, wanted, error }) => [
    name,
    `${median(ours).toFixed(2)} s (${ours.length})`,
    `${median(peer).toFixed(2)} s (${peer.length})`,
    error === undefined ? `${ratio.toFixed(1)} ×` : 'missing',
    `${wanted} ×`,
    error ?? (ratio >= wanted ? 'reached' : 'not reached'),
  ])
  return markdown([
    ['method', 'lowbit, whole process', 'llm-compressor, one call', 'ratio', 'wanted', ''],
    ...rows,
  ])
}

/** Contests in the order of the table, those of this run over those of earlier ones of the day. */
function merged(done: readonly Result[]): readonly Result[] {
  const text = readRecord('peers-speed')
  const earlier: { results: readonly Result[] } =
    text === undefined ? { results: [] } : JSON.parse(text)
  const known = new Map([...earlier.results, ...done].map((result) => [result.name, result]))
  return CONTESTS.flatMap(({ name }) => known.get(name) ?? [])
}

const { values, positionals } = parseArgs({
  options: { runs: { type: 'string', default: '3' }, record: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const unknown = positionals.find((name) => !CONTESTS.some((one) => one.name === name))
if (unknown !== undefined)
  throw new Error(`no method ${unknown}; there are ${CONTESTS.map(({ name }) => name).join(', ')}`)
const results: Result[] = []
for (const one of CONTESTS) {
  if (positionals.length > 0 && !positionals.includes(one.name)) continue
  results.push(await contest(one, Number(values.runs)))
  console.error(`${one.name}: ${results.at(-1)?.error ?? `${results.at(-1)?.ratio.toFixed(2)} ×`}`)
}
console.log(tableOf(results))
if (values.record) {
  const { processor, threads } = machine()
  const head = `# Speed against llm-compressor 0.14

\`node bench/peers/speed.ts --record\` on ${processor}, ${threads} threads: novels-4m (1b: random weights of 1.1 billion parameters), ${SAMPLES} × ${LENGTH} tokens, w4g128,
median (runs). Ours is the whole process from start to end; the peer's is its \`oneshot\` call alone.

`
  const all = merged(results)
  record('peers-speed', { results: all }, head + tableOf(all))
}
