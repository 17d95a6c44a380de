/**
 * Speed of the package through its public API, on the model of the repository.
 *   node scripts/bench.mjs [FILTER…] [--record]     (npm run bench)
 * With --record the figures are kept in bench/record, from where the README quotes them.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { catalog } from '../dist/index.node.js'
import { quantizeBenches } from './quantize.ts'
import { runBenches } from './run.ts'

/** One measurement: what was measured, how much of what per second, and the time of one call. */
export interface Figure {
  readonly name: string
  readonly unit: string
  readonly perSecond: number
  readonly seconds: number
  readonly runs: number
}

/** What every group of benches gets. */
export interface Setting {
  /** The original model. */
  readonly source: string
  /** A folder that is removed afterwards. */
  readonly scratch: string
  readonly text: string
  /** Whether the filters of the command line let this bench run. */
  wants(name: string): boolean
}

const root = fileURLToPath(new URL('..', import.meta.url))

async function main(): Promise<void> {
  const words = process.argv.slice(2)
  const filters = words.filter((word) => !word.startsWith('--'))
  const machine = await describe()
  for (const [key, value] of Object.entries(machine)) console.log(`${key}: ${value}`)
  const scratch = mkdtempSync(join(tmpdir(), 'lowbit-bench-'))
  const setting: Setting = {
    source: join(root, 'models', 'novels-4m'),
    scratch,
    text: readFileSync(join(root, 'data', 'eval.txt'), 'utf8'),
    wants: (name) => filters.length === 0 || filters.some((filter) => name.includes(filter)),
  }
  try {
    const figures = [...(await quantizeBenches(setting)), ...(await runBenches(setting))]
    if (words.includes('--record')) record(machine, figures)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Without the machine and the versions a figure says nothing. */
async function describe(): Promise<Record<string, string>> {
  const { version, host } = await catalog()
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    threads: String(availableParallelism()),
    isa: host.isa,
    lowbit: version,
    node: process.version,
    model: 'models/novels-4m, 4.2 M parameters',
  }
}

function record(machine: Record<string, string>, figures: readonly Figure[]): void {
  const folder = join(root, 'bench', 'record')
  mkdirSync(folder, { recursive: true })
  const date = new Date().toISOString().slice(0, 10)
  const slug = (machine['processor'] ?? '').toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  const file = join(folder, `${date}-${slug}.json`)
  writeFileSync(file, `${JSON.stringify({ date, machine, figures }, undefined, 2)}\n`)
  console.log(`recorded in bench/record/${date}-${slug}.json`)
}

await main()
