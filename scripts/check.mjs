// Formats and lints of everything, or with --fix their automatic repairs.
//   node scripts/check.mjs [--fix]
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { build } from './build.mjs'
import { main, root, run, say, since } from './run.mjs'
import { setUp } from './setup.mjs'
import { hostTriple } from './build/native.mjs'

// The features of the tests and the build, so that clippy sees all code; wasm's has its own target.
const clippy = [
  'clippy',
  '--release',
  '--workspace',
  '--exclude',
  'lowbit-wasm',
  '--all-targets',
  '--target',
  hostTriple(),
]

await main(async () => {
  const fix = process.argv.includes('--fix')
  const ready = await setUp({ full: existsSync(join(root, 'wasm')) })
  // oxlint checks types, and some of them come out of the wasm build.
  if (!fix) await build(ready, { only: ['wasm', 'ts'] })
  const checks = fix
    ? [npmTool('oxfmt'), npmTool('oxlint', '--fix'), ['cargo', 'fmt', '--all']]
    : [
        npmTool('oxfmt', '--check'),
        npmTool('oxlint'),
        ['cargo', 'fmt', '--all', '--check'],
        ['cargo', ...clippy, '--', '-D', 'warnings'],
      ]
  const failed = []
  for (const [command, ...args] of checks) {
    const start = performance.now()
    const name = command === 'cargo' ? `cargo ${args[0]}` : args[0].split('/').at(-1)
    const { code } = await run(command, args)
    if (code !== 0) failed.push(name)
    say(`${name}: ${code === 0 ? 'ok' : 'failed'} in ${since(start)}`)
  }
  if (failed.length > 0)
    say(`failed: ${failed.join(', ')}${fix ? '' : '; npm run fix repairs what can be repaired'}`)
  return failed.length > 0 ? 1 : 0
})

function npmTool(name, ...args) {
  return [process.execPath, join(root, 'node_modules', name, 'bin', name), ...args]
}
