/** Runs the program on this process: standard streams, signals, exit. */
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Lowbit } from '../api.ts'
import { runProgram } from './program.ts'
import { terminalOf } from './terminal.ts'

/** Exit codes of an interrupted program, as shells know them. */
const INTERRUPTED = { SIGINT: 130, SIGTERM: 143 } as const

/** A compute step that does not return in this time is left behind; its journal is whole. */
const GRACE_MS = 1500

/** Runs the command line of this process and ends it. */
export async function start(api: () => Promise<Lowbit>): Promise<void> {
  const abort = new AbortController()
  let interrupted: number | undefined
  for (const [signal, code] of Object.entries(INTERRUPTED)) {
    process.on(signal, () => {
      // Whoever asks twice means now.
      if (interrupted !== undefined) process.exit(code)
      interrupted = code
      abort.abort()
      setTimeout(() => process.exit(code), GRACE_MS).unref()
    })
  }
  // A reader that has seen enough, as `head`, is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? 0 : 1)
  })
  const terminal = terminalOf(process.stdout, process.stderr)
  const context = { api, terminal, lines: inputLines, signal: abort.signal }
  const code = await runProgram(process.argv.slice(2), context, await version())
  // What is still in a pipe gets out first; threads of the native module would stay.
  process.stdout.write('', () => process.exit(interrupted ?? code))
}

function inputLines(): AsyncIterable<string> {
  return createInterface({ input: process.stdin })
}

async function version(): Promise<string> {
  const place = new URL('../../package.json', import.meta.url)
  const manifest: { version: string } = JSON.parse(await readFile(place, 'utf8'))
  return manifest.version
}
