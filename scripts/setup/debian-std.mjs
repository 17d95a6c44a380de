// Debian's Rust packages have the sources of std but not its build for wasm32: it is built once,
// from those sources, into a private sysroot beside two shims that stand in for rustc and cargo.
// Nothing is downloaded and nothing is written outside .tools.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ask, must, say, since, tools } from '../run.mjs'
import { isRecent } from './rust.mjs'

/** Debian 12; later releases carry recent versions as plain `rustc cargo rust-src lld`. */
export const debianPackages = ['rustc-web', 'cargo-web', 'rust-web-src', 'lld-19']

const target = 'wasm32-unknown-unknown'
const rustc = '/usr/bin/rustc'
const cargo = '/usr/bin/cargo'
const home = join(tools, 'wasm-toolchain')
/** Raised when the way of building changes, so that an old result is not taken for a new one. */
const recipe = 1

/** Whether the packaged compiler, its sources and a wasm linker are installed. */
export function hasDebianRust() {
  return (
    isRecent(rustc) &&
    existsSync(cargo) &&
    Boolean(linker()) &&
    existsSync(join(sources(), 'std', 'Cargo.toml'))
  )
}

/** Builds the private toolchain unless it is there, for exactly these packages. */
export async function debianToolchain() {
  const versions = [ask(rustc, ['-vV']), ask(cargo, ['-V']), linker(), `recipe ${recipe}`].join(
    '\n',
  )
  const found = {
    path: [join(home, 'bin')],
    about: `${ask(rustc, ['-V'])?.trim()}, std built in .tools`,
  }
  if (readStamp(home) === versions) return found
  say(
    `building std for ${target} from Debian's sources, once, in .tools/wasm-toolchain (about a minute)`,
  )
  const start = performance.now()
  // Made aside and renamed, so that an interrupted run leaves nothing half-made.
  const fresh = `${home}.${process.pid}.new`
  rmSync(fresh, { recursive: true, force: true })
  writeShims(fresh)
  linkSysroot(fresh)
  await buildStd(fresh)
  writeFileSync(join(fresh, 'stamp'), versions)
  rmSync(home, { recursive: true, force: true })
  renameSync(fresh, home)
  say(`built std in ${since(start)}`)
  return found
}

function readStamp(dir) {
  const stamp = join(dir, 'stamp')
  return existsSync(stamp) ? readFileSync(stamp, 'utf8') : undefined
}

function sources() {
  return join(ask(rustc, ['--print', 'sysroot'])?.trim() ?? '/usr', 'lib/rustlib/src/rust/library')
}

/** The newest lld; its plain name comes last because Debian's default is older. */
function linker() {
  const names = readdirSync('/usr/bin').filter((name) => /^lld(-\d+)?$/.test(name))
  names.sort((a, b) => Number(b.slice(4)) - Number(a.slice(4)))
  return names[0] && join('/usr/bin', names[0])
}

/** wasm-pack looks for `rustc` and `cargo` in PATH and asks them for their sysroot. */
function writeShims(dir) {
  const bin = join(dir, 'bin')
  mkdirSync(bin, { recursive: true })
  const here = '"$(cd "$(dirname "$0")" && pwd)'
  const rustcShim = `exec ${rustc} --sysroot ${here}/../sysroot" "$@"`
  // A leading +toolchain is rustup's, which Debian's cargo does not know.
  const cargoShim = `case "\${1-}" in +*) shift ;; esac\nRUSTC=${here}/rustc"\nexport RUSTC\nexec ${cargo} "$@"`
  for (const [name, body] of [
    ['rustc', rustcShim],
    ['cargo', cargoShim],
  ]) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 })
  }
  // The target's default linker, by the name under which rustc looks for it.
  symlinkSync(linker(), join(bin, 'rust-lld'))
}

/** Every other target of the sysroot stays the packaged one. */
function linkSysroot(dir) {
  const packaged = join(ask(rustc, ['--print', 'sysroot']).trim(), 'lib/rustlib')
  const ours = join(dir, 'sysroot/lib/rustlib')
  mkdirSync(join(ours, target, 'lib'), { recursive: true })
  for (const name of readdirSync(packaged)) {
    if (name !== target) symlinkSync(join(packaged, name), join(ours, name))
  }
}

/** Compiles std as a dependency of an empty crate and keeps its libraries. */
async function buildStd(dir) {
  const work = join(dir, 'build')
  mkdirSync(join(work, 'src'), { recursive: true })
  writeFileSync(join(work, 'src/lib.rs'), '#![no_std]\n')
  writeFileSync(
    join(work, 'Cargo.toml'),
    '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[profile.release]\ncodegen-units = 16\n[workspace]\n',
  )
  const out = join(work, 'target')
  const env = {
    PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
    RUSTC: rustc,
    RUSTC_BOOTSTRAP: '1',
    RUSTC_WRAPPER: '',
    // With bitcode, so that a build with link-time optimisation can use these libraries.
    RUSTFLAGS: '-Cembed-bitcode=yes',
    CARGO_TARGET_DIR: out,
  }
  const args = [
    'build',
    '--quiet',
    '--release',
    '--target',
    target,
    '-Zbuild-std=std,panic_abort,proc_macro,test',
  ]
  await must(cargo, args, { cwd: work, env, quiet: true })
  const built = join(out, target, 'release/deps')
  for (const file of readdirSync(built)) {
    if (/^lib.*\.rlib$/.test(file) && !file.startsWith('libempty-')) {
      copyFileSync(join(built, file), join(dir, 'sysroot/lib/rustlib', target, 'lib', file))
    }
  }
  rmSync(work, { recursive: true, force: true })
}
