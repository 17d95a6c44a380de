/** Where a command's words go: results to stdout, everything else to stderr. */
import type { Progress } from '../watching.ts'

/** Standard streams, as a command sees them. */
export interface Terminal {
  /** Writes a part of the result. */
  readonly out: (text: string) => void
  /** Writes a line for the reader. */
  readonly note: (line: string) => void
  /** Invites the reader to type; says nothing where nobody does. */
  readonly invite: (text: string) => void
  /** Shows how far a call is: a bar on a terminal, now and then a line elsewhere. */
  readonly progress: (progress: Progress) => void
  /** Takes the bar away. */
  readonly clear: () => void
}

/** A stream to write to. */
export interface Sink {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

/** Characters of a full bar. */
const BAR = 24
/** Seconds between two redrawings, and between two lines where nothing can be redrawn. */
const REDRAW_SECONDS = 0.1
const LINE_SECONDS = 10

/** A terminal over two streams. */
export function terminalOf(stdout: Sink, stderr: Sink): Terminal {
  let shown = 0
  let last = -Infinity

  function clear(): void {
    if (shown > 0) stderr.write(`\r${' '.repeat(shown)}\r`)
    shown = 0
  }

  function progress(state: Progress): void {
    const finished = state.done >= state.total
    const pause = stderr.isTTY ? REDRAW_SECONDS : LINE_SECONDS
    if (state.seconds - last < pause && !(finished && stderr.isTTY)) return
    // The first line of a short call would only be noise.
    if (!stderr.isTTY && last === -Infinity && state.seconds < LINE_SECONDS) return
    last = state.seconds
    const line = progressLine(state).slice(0, (stderr.columns ?? 80) - 1)
    if (!stderr.isTTY) {
      stderr.write(`${line}\n`)
      return
    }
    stderr.write(`\r${line.padEnd(shown)}`)
    shown = line.length
  }

  return {
    out(text) {
      clear()
      stdout.write(text)
    },
    note(line) {
      clear()
      stderr.write(`${line}\n`)
    },
    invite(text) {
      if (stderr.isTTY) stderr.write(text)
    },
    progress,
    clear,
  }
}

/** `quantize 3  [######      ]  41 %  1:02 left`. */
export function progressLine({ stage, layer, device, done, total, eta, loss }: Progress): string {
  const share = total > 0 ? Math.min(1, done / total) : 1
  const filled = Math.round(share * BAR)
  const bar = `[${'#'.repeat(filled)}${' '.repeat(BAR - filled)}]`
  const where = [stage, layer, device].filter((word) => word !== undefined).join(' ')
  const rest = eta === undefined ? '' : `  ${timeText(eta)} left`
  const error = loss === undefined ? '' : `  error ${loss.toFixed(4)}`
  return `${where.padEnd(14)} ${bar} ${String(Math.round(share * 100)).padStart(3)} %${rest}${error}`
}

/** `1:02`, or `1:02:03`. */
export function timeText(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const shown = parts[0] === 0 ? parts.slice(1) : parts
  return shown.map((part, i) => (i === 0 ? `${part}` : `${part}`.padStart(2, '0'))).join(':')
}

/** Rows as columns that line up; numbers to the right. */
export function tableText(rows: readonly (readonly (string | number)[])[]): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) {
      widths[i] = Math.max(widths[i] ?? 0, String(cell).length)
    }
  }
  const line = (row: readonly (string | number)[]): string =>
    row
      .map((cell, i) => {
        const width = widths[i] ?? 0
        return typeof cell === 'number' ? String(cell).padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd()
  return rows.map((row) => `${line(row)}\n`).join('')
}
