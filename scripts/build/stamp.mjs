// Skips a build step whose inputs are what they were and whose outputs are where it left them.
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { root, say, since } from '../run.mjs'

/**
 * @typedef {object} Step
 * @property {string} name names the record of its last run
 * @property {string[]} inputs files and folders, relative to the repository
 * @property {RegExp} [ignore] paths among the inputs that do not matter
 * @property {string[]} facts versions and flags that the outputs depend on
 * @property {() => string[]} outputs files that exist after a run, relative to the repository
 * @property {() => Promise<void>} build makes the outputs from the inputs
 */

/** Runs `step.build` unless nothing changed since it last succeeded. @param {Step} step */
export async function once(step) {
  const record = join(root, '.cache', 'build', `${step.name}.json`)
  const inputs = digest(step)
  if (isCurrent(record, inputs)) return false
  say(`building ${step.name}`)
  const start = performance.now()
  rmSync(record, { force: true })
  await step.build()
  mkdirSync(dirname(record), { recursive: true })
  const outputs = step.outputs().map((file) => ({ file, state: stateOf(file) }))
  writeFileSync(record, JSON.stringify({ inputs, outputs }, undefined, 1))
  say(`built ${step.name} in ${since(start)}`)
  return true
}

/** Every file under a folder of the repository, sorted, relative to the repository. */
export function filesUnder(path) {
  const full = join(root, path)
  if (!existsSync(full)) return []
  if (statSync(full).isFile()) return [path]
  const entries = readdirSync(full, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return files
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)))
    .toSorted()
}

function isCurrent(record, inputs) {
  if (!existsSync(record)) return false
  const last = JSON.parse(readFileSync(record, 'utf8'))
  return last.inputs === inputs && last.outputs.every(({ file, state }) => stateOf(file) === state)
}

function digest({ inputs, ignore, facts }) {
  const hash = createHash('sha256')
  hash.update(JSON.stringify(facts))
  for (const file of inputs.flatMap(filesUnder)) {
    if (ignore?.test(file)) continue
    const bytes = readFileSync(join(root, file))
    hash.update(`\n${file} ${bytes.length}\n`).update(bytes)
  }
  return hash.digest('hex')
}

function stateOf(file) {
  const full = join(root, file)
  if (!existsSync(full)) return 'missing'
  const { size, mtimeMs } = statSync(full)
  return `${size} bytes, ${mtimeMs}`
}
