// The TypeScript tests, once for each binding.
import { join } from 'node:path'
import { root, run } from '../run.mjs'
import { skipReason } from './tally.mjs'

/** Runs the tests of one binding (see ava.config.mjs) with a Node that strips types. */
export async function avaTests(tally, { node, binding, env, only = [] }) {
  const reader = new Reader(tally, binding)
  const before = tally.failed
  const cli = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.js')
  const options = { env: { ...env, LOWBIT_BINDING: binding, NO_COLOR: '1' } }
  const { code } = await run(node, [cli, ...only], {
    ...options,
    onLine: (line) => reader.read(line),
  })
  if (code !== 0 && tally.failed === before) tally.failed += 1
}

/** Counts the lines of ava's own reporter; its TAP reporter (8.0.1) dies when a test process does. */
class Reader {
  #tally
  #binding
  #last = ''
  #quiet = false

  constructor(tally, binding) {
    this.#tally = tally
    this.#binding = binding
  }

  read(line) {
    const passed = /^\s*✔ (.*)$/.exec(line)?.[1]
    const reason = this.#quiet ? skipReason(line) : undefined
    if (reason) this.#tally.passedButSkipped(`${this.#binding}: ${this.#last}`, reason)
    else this.#count(line, passed)
    // What a passed test logged is shown only when it says that the test was skipped.
    this.#quiet = Boolean(passed) || (this.#quiet && /^\s*(ℹ|\s{4})/.test(line))
    if (!this.#quiet || reason) console.log(line)
  }

  #count(line, passed) {
    if (passed) {
      this.#tally.passed += 1
      this.#last = passed.replace(/ \([\d.m ]+m?s\)$/, '')
    } else if (/^\s*✘ /.test(line)) {
      this.#tally.failed += 1
    } else if (/^\s*- \[(skip|todo)\] /.test(line)) {
      this.#tally.skipped.push(`${this.#binding}: ${line.trim().slice(2)}`)
    }
  }
}
