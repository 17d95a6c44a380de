// Builds what changed: the native module, the wasm module, the JavaScript.
//   node scripts/build.mjs [native] [wasm] [ts] [--profile dist]     without names: all three
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { buildNative } from './build/native.mjs'
import { buildTs } from './build/ts.mjs'
import { buildWasm } from './build/wasm.mjs'
import { Failure, main } from './run.mjs'
import { saySkipped, setUp } from './setup.mjs'

const steps = ['native', 'wasm', 'ts']

/** Builds the named steps; `ready` is what set-up found. */
export async function build(ready, { only = steps, profile = 'release' } = {}) {
  if (only.includes('native')) await buildNative({ profile })
  if (only.includes('wasm') && ready.wasm) await buildWasm(ready.wasm, { profile })
  if (only.includes('ts')) await buildTs()
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const options = { profile: { type: 'string', default: 'release' } }
    const { values, positionals } = parseArgs({ options, allowPositionals: true })
    const unknown = positionals.find((name) => !steps.includes(name))
    if (unknown) throw new Failure(`no build step "${unknown}"; there are ${steps.join(', ')}`)
    const only = positionals.length > 0 ? positionals : steps
    const ready = await setUp({ full: only.includes('wasm') })
    await build(ready, { only, profile: values.profile })
    saySkipped(ready.skipped)
  })
}
