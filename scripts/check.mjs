// Formats and lints of everything, or with --fix what can be repaired of them.
//   node scripts/check.mjs [--fix]
import { join } from 'node:path'
import { build } from './build.mjs'
import { libraryArgs } from './build/native.mjs'
import { rustFlags } from './build/wasm.mjs'
import { main, root, run, say, since } from './run.mjs'
import { saySkipped, setUp } from './setup.mjs'
import { hasTarget, target } from './setup/wasm-target.mjs'

const npmTool = (name, ...args) => ({
  name,
  command: process.execPath,
  args: [join(root, 'node_modules', name, 'bin', name), ...args],
})

const clippy = (name, args, env) => ({
  name: `clippy ${name}`,
  command: 'cargo',
  args: ['clippy', ...args, '--', '-D', 'warnings'],
  env,
})

const fixes = [
  npmTool('oxfmt'),
  npmTool('oxlint', '--fix'),
  { name: 'rustfmt', command: 'cargo', args: ['fmt', '--all'] },
]

const checks = [
  npmTool('oxfmt', '--check'),
  npmTool('oxlint'),
  { name: 'rustfmt', command: 'cargo', args: ['fmt', '--all', '--check'] },
  clippy('native', [...libraryArgs, '--all-targets']),
  // Debian's compiler for wasm comes without clippy.
  clippy('wasm', ['-p', 'lowbit-wasm', '--release', '--target', target], {
    CARGO_TARGET_DIR: join(root, 'target', 'wasm'),
    RUSTFLAGS: rustFlags,
  }),
]

await main(async () => {
  const fix = process.argv.includes('--fix')
  // oxlint checks types too, and those of tests and benches come out of dist/.
  const ready = await setUp({ full: !fix })
  if (!fix) await build(ready, { only: ['wasm', 'ts'] })
  if (!fix && !hasTarget('rustc')) ready.skipped.push(`clippy wasm (rustup target add ${target})`)
  const possible = checks.filter(({ name }) => name !== 'clippy wasm' || hasTarget('rustc'))
  const failed = []
  for (const { name, command, args, env } of fix ? fixes : possible) {
    const start = performance.now()
    const { code } = await run(command, args, { env })
    if (code !== 0) failed.push(name)
    say(`${name}: ${code === 0 ? 'ok' : 'failed'} in ${since(start)}`)
  }
  if (failed.length > 0) say(`failed: ${failed.join(', ')}`)
  saySkipped(ready.skipped)
  return failed.length > 0 ? 1 : 0
})
