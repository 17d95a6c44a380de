// A Rust compiler that can build for wasm32-unknown-unknown.
import { readdirSync } from 'node:fs'
import { ask, run, say } from '../run.mjs'
import { debianPackages, debianToolchain, hasDebianRust } from './debian-std.mjs'
import { isRecent } from './rust.mjs'
import { aptInstall, remedy } from './system.mjs'

export const target = 'wasm32-unknown-unknown'

/**
 * Ways to get the target, cheapest first. Each answers with the directories that go first in PATH
 * for a wasm build, or with nothing. LOWBIT_WASM names the only one to try.
 */
const ways = [
  { name: 'system', find: inPath },
  { name: 'rustup', find: throughRustup },
  { name: 'debian', find: throughDebian },
]

/** @returns {Promise<{ path?: string[], about?: string, remedy?: string }>} */
export async function wasmTarget() {
  const only = process.env.LOWBIT_WASM
  for (const way of ways) {
    if (only && way.name !== only) continue
    const found = await way.find()
    if (found) return found
  }
  const debian = remedy(debianPackages)
  return {
    remedy: `rustup target add ${target}${debian.startsWith('sudo') ? `, or ${debian}` : ''}`,
  }
}

/** Whether this compiler is recent enough and has a standard library for the target. */
export function hasTarget(rustc) {
  const dir = ask(rustc, ['--print', 'target-libdir', '--target', target])?.trim()
  if (!dir || !isRecent(rustc)) return false
  try {
    return readdirSync(dir).some((file) => /^libstd-.*\.rlib$/.test(file))
  } catch {
    return false
  }
}

function inPath() {
  return hasTarget('rustc')
    ? { path: [], about: `${ask('rustc', ['-V'])?.trim()}, from PATH` }
    : undefined
}

/** rustup downloads the target from its own server, which not every network reaches. */
async function throughRustup() {
  if (!ask('rustup', ['-V'])) return undefined
  // Where Debian's compiler is at hand already, nothing needs to be downloaded.
  if (!process.env.LOWBIT_WASM && hasDebianRust()) return undefined
  say(`adding the target ${target} through rustup (std for the wasm build)`)
  await run('rustup', ['target', 'add', target], { quiet: true, timeout: 120_000 })
  if (hasTarget('rustc'))
    return { path: [], about: `${ask('rustc', ['-V'])?.trim()}, target added by rustup` }
  say('rustup could not add it')
  return undefined
}

async function throughDebian() {
  if (!hasDebianRust()) {
    await aptInstall(
      debianPackages,
      'a Rust compiler with the sources of std, to build std for wasm',
    )
  }
  return hasDebianRust() ? debianToolchain() : undefined
}
