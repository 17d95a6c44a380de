// cargo test, with the package, features and target of the native build.
import { libraryArgs } from '../build/native.mjs'
import { run } from '../run.mjs'
import { skipReason } from './tally.mjs'

/** Runs the Rust tests and adds them to the tally; shows what failed. */
export async function cargoTests(tally, env) {
  const reader = new Reader(tally)
  const before = tally.failed
  const args = ['test', ...libraryArgs, '--no-fail-fast']
  const onLine = (line) => reader.read(line)
  const { code } = await run('cargo', [...args, '--', '--show-output'], { env, onLine })
  // A crash of a test binary or an error of the compiler leaves no line of its own.
  if (code !== 0 && tally.failed === before) tally.failed += 1
}

/** Follows libtest's output: result lines, then what tests printed under `---- name stdout ----`. */
class Reader {
  #tally
  #current = ''
  #showing = false

  constructor(tally) {
    this.#tally = tally
  }

  read(line) {
    if (/^running \d+ tests?$/.test(line)) this.#showing = false
    const result = /^test (.*?) \.\.\. (ok|FAILED|ignored)/.exec(line)
    if (result) return this.#count(result[1], result[2])
    if (line === 'failures:') this.#showing = true
    this.#current = /^---- (.*?) stdout ----$/.exec(line)?.[1] ?? this.#current
    const reason = this.#showing ? undefined : skipReason(line)
    if (reason) this.#tally.passedButSkipped(`rust ${this.#current}`, reason)
    if (this.#showing || line.startsWith('test result')) console.log(line)
    return undefined
  }

  #count(name, outcome) {
    if (outcome === 'ok') this.#tally.passed += 1
    else if (outcome === 'FAILED') this.#tally.failed += 1
    else this.#tally.skipped.push(`rust ${name} (ignored)`)
  }
}
