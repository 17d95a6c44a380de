// The Node module: native/lowbit.<platform>.node.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, must, root } from '../run.mjs'
import { filesUnder, once } from './stamp.mjs'

/** The triple that rustc builds for when not told otherwise. */
export function hostTriple() {
  return /^host: (.*)$/m.exec(ask('rustc', ['-vV']) ?? '')?.[1] ?? ''
}

/**
 * What tests, benches and lints of the library select: with lowbit-node beside it, it gets the same
 * features as in the module, and dependencies are compiled once for both.
 */
export const libraryArgs = [
  '--release',
  '--target',
  hostTriple(),
  '-p',
  'lowbit',
  '-p',
  'lowbit-node',
]

/** Builds it with Cargo's `release` profile, or with `dist`, which is what gets published. */
export function buildNative({ profile = 'release' } = {}) {
  return once({
    name: 'native',
    inputs: [
      'Cargo.toml',
      'Cargo.lock',
      'crates/lowbit',
      'crates/lowbit-node',
      'scripts/build/native.mjs',
    ],
    ignore: /^crates\/lowbit\/(tests|benches|examples|fuzz)\//,
    facts: [ask('rustc', ['-vV']) ?? '', profile, process.env.RUSTFLAGS ?? ''],
    outputs: () => filesUnder('native'),
    build: () => napi(profile),
  })
}

async function napi(profile) {
  rmSync(join(root, 'native'), { recursive: true, force: true })
  const cli = join(root, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js')
  const args = ['build', '--platform', '--no-js', '--package', 'lowbit-node', '--profile', profile]
  const places = ['--manifest-path', 'crates/lowbit-node/Cargo.toml', '--output-dir', 'native']
  await must(process.execPath, [cli, ...args, ...places], { name: 'napi build' })
}
