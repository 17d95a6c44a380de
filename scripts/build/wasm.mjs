// The browser module: wasm/lowbit.js and wasm/lowbit_bg.wasm.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { ask, Failure, must, root, say, systemPath } from '../run.mjs'
import { filesUnder, once } from './stamp.mjs'

// SIMD is the baseline: every browser with WebGPU or module workers has it.
export const rustFlags = '-C target-feature=+simd128'

// Exactly what rustc emits for the target: with --all-features wasm-opt writes what no engine reads.
const features = [
  '--enable-simd',
  '--enable-bulk-memory',
  '--enable-sign-ext',
  '--enable-mutable-globals',
  '--enable-nontrapping-float-to-int',
  '--enable-reference-types',
  '--enable-multivalue',
]

// The types of ts/ are the same whether or not there is a module, current or not.
const types = `export { default } from '../types/wasm/lowbit.js'
export * from '../types/wasm/lowbit.js'
`

/** Builds it with the toolchain and tools that set-up found. */
export function buildWasm(wasm, { profile = 'release' } = {}) {
  const path = [...wasm.path, systemPath].join(delimiter)
  return once({
    name: 'wasm',
    inputs: [
      'Cargo.toml',
      'Cargo.lock',
      'crates/lowbit',
      'crates/lowbit-wasm',
      'scripts/build/wasm.mjs',
    ],
    ignore: /^crates\/lowbit\/(tests|benches|examples|fuzz)\//,
    facts: [ask('rustc', ['-vV'], { PATH: path }) ?? '', profile, rustFlags, ...features],
    outputs: () => filesUnder('wasm'),
    build: () => wasmPack(path, profile),
  })
}

async function wasmPack(path, profile) {
  const pack = join(root, '.cache', 'wasm-pack')
  rmSync(pack, { recursive: true, force: true })
  const env = {
    PATH: path,
    RUSTFLAGS: rustFlags,
    // Two compilers may be at work, Debian's for wasm and rustup's for Node: their outputs are kept apart.
    CARGO_TARGET_DIR: join(root, 'target', 'wasm'),
  }
  const kind = profile === 'release' ? ['--release'] : ['--profile', profile]
  const plain = ['--mode', 'no-install', '--no-opt', '--no-pack', '--no-typescript']
  const places = ['--target', 'web', '--out-name', 'lowbit', '--out-dir', pack]
  await must('wasm-pack', ['build', 'crates/lowbit-wasm', ...kind, ...plain, ...places], { env })
  const optimised = join(pack, 'optimised.wasm')
  await optimise(join(pack, 'lowbit_bg.wasm'), optimised, profile)
  const out = join(root, 'wasm')
  rmSync(out, { recursive: true, force: true })
  mkdirSync(out)
  renameSync(join(pack, 'lowbit.js'), join(out, 'lowbit.js'))
  renameSync(optimised, join(out, 'lowbit_bg.wasm'))
  writeFileSync(join(out, 'lowbit.d.ts'), types)
}

/** wasm-opt, then a check that the engine at hand accepts the result. */
async function optimise(from, to, profile) {
  // -O1 takes a quarter of the time of -O3 and is 1.5 % larger; what is published may take longer.
  const level = profile === 'dist' ? '-O3' : '-O1'
  const wasmOpt = join(root, 'node_modules', 'binaryen', 'bin', 'wasm-opt')
  await must(process.execPath, [wasmOpt, level, ...features, from, '-o', to], { name: 'wasm-opt' })
  const [before, after] = [from, to].map((file) => readFileSync(file))
  if (!WebAssembly.validate(after))
    throw new Failure('wasm-opt wrote a module that this Node does not accept')
  say(`wasm-opt: ${before.length} to ${after.length} bytes`)
}
