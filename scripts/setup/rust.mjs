// The native Rust toolchain, which set-up needs and never installs.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ask, Failure, root } from '../run.mjs'

/** The oldest rustc that the workspace accepts, as Cargo.toml states it. */
export function oldestRust() {
  const manifest = readFileSync(join(root, 'Cargo.toml'), 'utf8')
  return /^rust-version = "([\d.]+)"/m.exec(manifest)?.[1] ?? '1.95'
}

/** Whether `rustc` runs and is at least the version that the workspace asks for. */
export function isRecent(rustc) {
  const version = /^rustc (\d+)\.(\d+)/.exec(ask(rustc, ['-V']) ?? '')
  if (!version) return false
  const [major, minor] = oldestRust().split('.').map(Number)
  return Number(version[1]) > major || (Number(version[1]) === major && Number(version[2]) >= minor)
}

/** Fails with the remedy when the compiler in PATH is missing or too old. */
export function rustToolchain() {
  if (isRecent('rustc') && ask('cargo', ['-V'])) return
  const found = ask('rustc', ['-V'])?.trim() ?? 'no rustc'
  throw new Failure(
    `Rust ${oldestRust()} or newer is needed, found ${found}; install or update it with rustup`,
  )
}
