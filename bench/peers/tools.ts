/** What the comparisons share: lowbit's command, the peers' Python, and where figures are kept. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository. */
export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url))

/** The model and texts of every comparison. */
export const MODEL: string = join(ROOT, 'models', 'novels-4m')
export const CALIBRATION: string = join(ROOT, 'data', 'calibration.txt')
export const EVALUATION: string = join(ROOT, 'data', 'eval.txt')

/** What a process did. */
export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
  /** From its start to its end. */
  readonly seconds: number
  /** Most memory that it held at once; 0 where the system does not tell. */
  readonly peakBytes: number
}

/** Milliseconds between two looks at a process; its peak only grows, so the last look has it. */
const LOOK_MS = 20

/** Runs a program to its end. */
export async function run(command: string, args: readonly string[]): Promise<Ran> {
  const begun = performance.now()
  const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  const parts = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (parts.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (parts.err += text))
  let peakBytes = 0
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, peakOf(child.pid))
  }, LOOK_MS)
  const code = await new Promise<number | null>((done, fail) => {
    child.once('error', fail)
    child.once('close', done)
  })
  clearInterval(watch)
  return { code, ...parts, seconds: (performance.now() - begun) / 1000, peakBytes }
}

function peakOf(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

/** Runs `lowbit` as it is shipped, from dist/. */
export function lowbit(...args: readonly string[]): Promise<Ran> {
  return run(process.execPath, [join(ROOT, 'dist', 'cli', 'main.js'), ...args])
}

/**
 * The Python that has the peers: LOWBIT_PEERS_PYTHON, or an environment beside this file that is
 * made once from requirements.txt. No user of the package ever needs it.
 */
export function peersPython(): string {
  const given = process.env['LOWBIT_PEERS_PYTHON']
  if (given !== undefined) return given
  const here = join(ROOT, 'bench', 'peers')
  const python = join(here, '.venv', 'bin', 'python')
  if (existsSync(python)) return python
  console.error('making bench/peers/.venv; this takes some minutes and gigabytes')
  const options = { cwd: here, stdio: ['ignore', 'inherit', 'inherit'] as const }
  execFileSync('python3', ['-m', 'venv', '.venv'], { ...options, stdio: 'inherit' })
  execFileSync(python, ['-m', 'pip', 'install', '-r', 'requirements.txt'], {
    ...options,
    stdio: 'inherit',
  })
  return python
}

/** Without the machine a figure says nothing. */
export function machine(): Record<string, string> {
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    threads: String(availableParallelism()),
    node: process.version,
  }
}

/** The middle of some values. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** A Markdown table; the first row is its head. */
export function markdown(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    `| ${widths.map((width, i) => (row[i] ?? '').padEnd(width)).join(' | ')} |\n`
  const [head = [], ...body] = rows
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |\n`
  return line(head) + rule + body.map(line).join('')
}

/** JSON that was kept earlier today, if any was. */
export function readRecord(name: string): string | undefined {
  const date = new Date().toISOString().slice(0, 10)
  const file = join(ROOT, 'bench', 'record', `${date}-${name}.json`)
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined
}

/** Keeps figures as JSON and as the table that people read. */
export function record(name: string, figures: object, text: string): void {
  const folder = join(ROOT, 'bench', 'record')
  mkdirSync(folder, { recursive: true })
  const date = new Date().toISOString().slice(0, 10)
  const file = join(folder, `${date}-${name}`)
  const all = { date, machine: machine(), ...figures }
  writeFileSync(`${file}.json`, `${JSON.stringify(all, undefined, 2)}\n`)
  writeFileSync(`${file}.md`, text)
  console.error(`recorded in bench/record/${date}-${name}.{md,json}`)
}
