// Sets up, builds and runs every test: Rust, TypeScript on the native binding and on the wasm one,
// and headless Chromium. The last line counts them all; what was skipped is named.
//   node scripts/test.mjs [rust] [node] [wasm] [chromium] [--match FILE…]     without names: all four
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from './build.mjs'
import { Failure, main, say, since } from './run.mjs'
import { onCi } from './setup/system.mjs'
import { setUp } from './setup.mjs'
import { avaTests } from './test/ava.mjs'
import { cargoTests } from './test/cargo.mjs'
import { Tally } from './test/tally.mjs'

const suites = ['rust', 'node', 'wasm', 'chromium']

await main(async () => {
  const options = { match: { type: 'string', multiple: true, default: [] } }
  const { values, positionals } = parseArgs({ options, allowPositionals: true })
  const unknown = positionals.find((name) => !suites.includes(name))
  if (unknown) throw new Failure(`no tests called "${unknown}"; there are ${suites.join(', ')}`)
  const chosen = positionals.length > 0 ? positionals : suites
  const tally = new Tally()
  try {
    const ready = await setUp()
    tally.skipped.push(...ready.skipped)
    await build(ready)
    await runSuites(tally, { ready, chosen, only: values.match })
  } catch (error) {
    // The counts come last whatever happened before them.
    if (!(error instanceof Failure)) throw error
    process.stderr.write(`lowbit: error: ${error.message}\n`)
    tally.failed += 1
  }
  printLast(tally)
  return tally.failed > 0 ? 1 : 0
})

/** People find what was skipped on the last line; on CI that line is for programs to read. */
function printLast(tally) {
  const names = tally.skipped.join('; ')
  if (names && onCi()) console.log(`skipped: ${names}`)
  console.log(names && !onCi() ? `${tally.line()}: ${names}` : tally.line())
}

async function runSuites(tally, { ready, chosen, only }) {
  const scratch = mkdtempSync(join(tmpdir(), 'lowbit-'))
  const env = testEnvironment(ready, scratch)
  try {
    for (const suite of chosen.filter((name) => canRun(name, ready))) {
      const start = performance.now()
      const before = { passed: tally.passed, failed: tally.failed }
      say(`testing: ${suite}`)
      if (suite === 'rust') await cargoTests(tally, env)
      else await avaTests(tally, { node: ready.node, binding: suite, env, only })
      const [passed, failed] = [tally.passed - before.passed, tally.failed - before.failed]
      say(`${suite}: ${passed} passed, ${failed} failed in ${since(start)}`)
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Why a suite cannot run is among what set-up skipped. */
function canRun(suite, { node, wasm, chromium }) {
  if (suite === 'rust') return true
  if (suite === 'node') return Boolean(node)
  return Boolean(node && wasm && (suite === 'wasm' || chromium))
}

function testEnvironment({ vulkan, chromium }, scratch) {
  // Where set-up could install a driver, a GPU test that finds none is a failure and not a skip.
  const required = onCi() && vulkan ? 'require' : undefined
  const gpu = process.env.LOWBIT_GPU ?? required
  return {
    ...(gpu && { LOWBIT_GPU: gpu }),
    ...(chromium && { LOWBIT_CHROMIUM: chromium }),
    // Mesa complains on stderr where no session has set it.
    XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? scratch,
  }
}
