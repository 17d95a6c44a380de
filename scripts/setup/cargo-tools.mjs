// wasm-pack and the wasm-bindgen command line, whose version must equal the crate's to the digit.
import { readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { ask, root, run, say, since, tools } from '../run.mjs'

const ours = join(tools, 'bin')

const wanted = [
  {
    crate: 'wasm-bindgen-cli',
    command: 'wasm-bindgen',
    version: lockedBindgen(),
    why: 'writes the JavaScript side of the wasm module',
  },
  { crate: 'wasm-pack', command: 'wasm-pack', version: '0.15.1', why: 'builds the wasm module' },
]

/** Directories with both tools, or the command that would install the one that is missing. */
export async function cargoTools() {
  const path = new Set()
  for (const tool of wanted) {
    const dir = find(tool) ?? (await install(tool))
    if (dir === undefined) {
      return { remedy: `cargo install ${tool.crate} --version ${tool.version} failed, see above` }
    }
    if (dir) path.add(dir)
  }
  return { path: [...path] }
}

/** Our folder, '' for a tool that PATH has in the right version, undefined when there is none. */
function find({ command, version }) {
  const has = (program) => ask(program, ['--version'])?.trim().split(' ')[1] === version
  if (has(join(ours, command))) return ours
  return has(command) ? '' : undefined
}

/**
 * Without the crate's own lock file first: the one of wasm-bindgen-cli 0.2.130 names a yanked crate.
 * Light optimisation, because these run for a second and compile for minutes.
 */
async function install(tool) {
  say(
    `installing ${tool.crate} ${tool.version} from crates.io in .tools (${tool.why}; some minutes)`,
  )
  const start = performance.now()
  const build = join(tools, 'build')
  const env = {
    CARGO_TARGET_DIR: build,
    CARGO_PROFILE_RELEASE_OPT_LEVEL: '1',
    CARGO_PROFILE_RELEASE_LTO: 'false',
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
    CARGO_PROFILE_RELEASE_DEBUG: 'false',
    RUSTFLAGS: '',
  }
  const args = ['install', tool.crate, '--version', tool.version, '--root', tools, '--quiet']
  const jobs = ['-j', String(availableParallelism())]
  for (const lock of [[], ['--locked']]) {
    const { code } = await run('cargo', [...args, ...jobs, ...lock], { env })
    if (code === 0) {
      say(`installed ${tool.crate} in ${since(start)}`)
      rmSync(build, { recursive: true, force: true })
      return ours
    }
  }
  return undefined
}

function lockedBindgen() {
  const lock = readFileSync(join(root, 'Cargo.lock'), 'utf8')
  return /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock)?.[1] ?? '0.2.130'
}
