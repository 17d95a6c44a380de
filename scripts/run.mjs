// Running other programs: where things are, what is said about it, and what a failure looks like.
import { spawn, spawnSync } from 'node:child_process'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository, without a trailing slash. */
export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '')

/** Tools that set-up installs; several clones may share one folder through LOWBIT_TOOLS. */
export const tools = process.env.LOWBIT_TOOLS || join(root, '.tools')

const bin = join(root, 'node_modules', '.bin')

/** PATH without this project's node_modules/.bin, which npm puts first: npm itself must not run on
 * a Node that it is about to replace. */
export const systemPath = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((dir) => dir !== bin)
  .join(delimiter)

/** A failure that needs no stack trace: what, where and remedy in one line. */
export class Failure extends Error {}

/** One line of progress on stderr. */
export function say(text) {
  process.stderr.write(`lowbit: ${text}\n`)
}

/** Output of a command that is expected to be quick; undefined when it fails or is missing. */
export function ask(command, args, env = {}) {
  const options = { encoding: 'utf8', env: { ...process.env, ...env }, timeout: 60_000 }
  const done = spawnSync(command, args, options)
  return done.status === 0 ? done.stdout : undefined
}

/**
 * Runs a command to its end. With `quiet` its output is kept and shown only when it fails.
 * `onLine` gets each line of stdout instead of the terminal; stderr still goes to the terminal.
 */
export function run(command, args, { env = {}, cwd = root, quiet = false, timeout, onLine } = {}) {
  const stdio = quiet
    ? ['ignore', 'pipe', 'pipe']
    : ['ignore', onLine ? 'pipe' : 'inherit', 'inherit']
  const child = spawn(command, args, { cwd, stdio, timeout, env: { ...process.env, ...env } })
  const kept = []
  if (quiet)
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (d) => kept.push(d))
  if (onLine) splitLines(child.stdout, onLine)
  return new Promise((resolve, reject) => {
    child.on('error', (cause) => reject(new Failure(`cannot run ${command}: ${cause.message}`)))
    child.on('close', (code, signal) => {
      if (quiet && code !== 0) process.stderr.write(Buffer.concat(kept))
      resolve({ code: code ?? 1, signal })
    })
  })
}

/** Like `run`, but a failure of the command is a failure of the script; `name` is what people call it. */
export async function must(
  command,
  args,
  { name = `${command} ${args[0] ?? ''}`, ...options } = {},
) {
  const { code, signal } = await run(command, args, options)
  if (code === 0) return
  throw new Failure(`${name} failed (${signal ?? `exit ${code}`}), see above`)
}

/** Runs a script's main function; one line instead of a stack for failures that explain themselves. */
export async function main(body) {
  try {
    process.exitCode = (await body()) ?? 0
  } catch (error) {
    if (!(error instanceof Failure) && error?.name !== 'LowbitError') throw error
    process.stderr.write(`lowbit: error: ${error.message}\n`)
    process.exitCode = 1
  }
}

/** Seconds since `start` (of `performance.now()`), for people. */
export function since(start) {
  return `${((performance.now() - start) / 1000).toFixed(1)} s`
}

function splitLines(stream, onLine) {
  let rest = ''
  stream.setEncoding('utf8')
  stream.on('data', (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
  stream.on('end', () => rest && onLine(rest))
}
