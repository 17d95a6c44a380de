/** Rules that hold for every file of the repository, so that no review has to repeat them. */
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const root = fileURLToPath(new URL('..', import.meta.url))
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  // Not what was just deleted, nor links to folders.
  .filter((file) => statSync(join(root, file), { throwIfNoEntry: false })?.isFile())

const sources = files.filter((file) => /\.(rs|ts|mjs|wgsl)$/.test(file))
const rust = sources.filter((file) => file.startsWith('crates/lowbit/src/') && file.endsWith('.rs'))
const script = sources.filter((file) => file.startsWith('ts/'))

function text(file: string): string {
  return readFileSync(join(root, file), 'utf8')
}

/** Code without comments and string contents: enough for looking up words that only code uses. */
function code(file: string): string {
  return text(file).replace(/\/\/.*$/gm, '')
}

/** Rust code that ships: what stands before the first `#[cfg(test)]`, and no file of tests. */
function shipped(file: string): string {
  if (/(^|[/_])(tests?|testing|conformance|shapes)\.rs$/.test(file)) return ''
  return code(file).split('#[cfg(test)]')[0] ?? ''
}

function offenders(list: readonly string[], isBad: (file: string) => boolean): string[] {
  return list.filter((file) => isBad(file))
}

test('files are short enough to be read at once', (t) => {
  const limit = (file: string): number => (file.endsWith('.wgsl') ? 200 : 300)
  const lines = (file: string): number => text(file).trimEnd().split('\n').length
  t.deepEqual(
    offenders(sources, (file) => lines(file) > limit(file)),
    [],
  )
})

test('a TODO names its issue', (t) => {
  const loose = /\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\): )/
  const own = basename(fileURLToPath(import.meta.url))
  t.deepEqual(
    offenders(sources, (file) => basename(file) !== own && loose.test(text(file))),
    [],
  )
})

test('there is one version number', (t) => {
  const manifest: { version: string } = JSON.parse(text('package.json'))
  const lock: { version: string } = JSON.parse(text('package-lock.json'))
  const workspace = /\[workspace\.package\]\nversion = "([^"]+)"/.exec(text('Cargo.toml'))?.[1]
  t.is(lock.version, manifest.version)
  t.is(workspace, manifest.version)
  for (const crate of ['lowbit', 'lowbit-node', 'lowbit-wasm']) {
    t.regex(text(`crates/${crate}/Cargo.toml`), /^version\.workspace = true$/m)
  }
})

test('every Rust file is a module of its parent', (t) => {
  const isDead = (file: string): boolean => {
    const name = basename(file, '.rs')
    if (file === 'crates/lowbit/src/lib.rs') return false
    const folder = name === 'mod' ? dirname(dirname(file)) : dirname(file)
    const module = name === 'mod' ? basename(dirname(file)) : name
    const parents = [`${folder}/mod.rs`, `${folder}/lib.rs`, `${folder}.rs`]
    const declares = new RegExp(`\\bmod ${module};|#\\[path = "${module}\\.rs"\\]`)
    // `#[path]` may stand in the file whose tests these are, beside this one.
    const beside = rust.filter((other) => dirname(other) === folder)
    return ![...parents.filter((parent) => rust.includes(parent)), ...beside].some((parent) =>
      declares.test(text(parent)),
    )
  }
  t.deepEqual(offenders(rust, isDead), [])
})

test('every shader is embedded', (t) => {
  const embedded = rust.map((file) => text(file)).join('\n')
  const shaders = sources.filter((file) => file.endsWith('.wgsl'))
  t.deepEqual(
    offenders(shaders, (file) => !embedded.includes(`${basename(file)}"`)),
    [],
  )
})

test('every TypeScript file is imported or an entry point', (t) => {
  const entries = new Set(['index.node', 'index.browser', 'worker', 'cli/main'])
  const all = script.map((file) => text(file)).join('\n')
  const isDead = (file: string): boolean =>
    !entries.has(file.slice(3, -3)) && !all.includes(`/${basename(file)}'`)
  t.deepEqual(offenders(script, isDead), [])
})

test('only the Node side of ts/ knows Node', (t) => {
  const node =
    /^ts\/(cli\/.*|index\.node|native|host[.-]node|store\/(fs|fs-write|lock|output)|hub\/(cache|download|environment|repository))\.ts$/
  const isBad = (file: string): boolean =>
    !node.test(file) && /from 'node:|\b(process|Buffer)\./.test(code(file))
  t.deepEqual(offenders(script, isBad), [])
})

test('the import maps of pages know what a page imports', (t) => {
  const inPages = script.filter(
    (file) => !/^ts\/(cli\/|index\.node|native\.|host\.node|hub\/repository)/.test(file),
  )
  const found = (pattern: RegExp): string[] =>
    inPages.flatMap((file) => [...text(file).matchAll(pattern)].map(([, name = '']) => name))
  // Types are gone in a page, and files of ours begin with a dot.
  const always = found(/^(?:import (?!type)|\} )[^;]*?from '([^.'][^:']*)'$/gm)
  const later = found(/\bimport\('([^.'][^']*)'\)/g)
  t.true(always.length > 3 && later.length > 1)
  const missing = (page: string, names: readonly string[]): string[] =>
    names.filter((name) => !text(page).includes(`"${name}": "/node_modules/`))
  t.deepEqual(missing('test/browser/page.html', [...always, ...later]), [])
  // The example makes no calibration set, for which these are loaded.
  const sets = new Set(['entities', 'htmlparser2', 'hyparquet'])
  const shown = always.filter((name) => !sets.has(name))
  t.deepEqual(missing('examples/browser/index.html', shown), [])
})

test('the core does no input or output and reads no clock', (t) => {
  const outside = /\bstd::(fs|net|process|io|env::(?!consts))\b|\b(Instant|SystemTime)::now\b/
  t.deepEqual(
    offenders(rust, (file) => outside.test(shipped(file))),
    [],
  )
})

test('unsafe code and wgpu stay in their files', (t) => {
  const isUnsafe = (file: string): boolean =>
    !basename(file).startsWith('simd') && /\bunsafe (\{|fn|impl)/.test(shipped(file))
  t.deepEqual(offenders(rust, isUnsafe), [])
  const namesWgpu = (file: string): boolean =>
    !/\/gpu(\/|\.rs$)/.test(file) && /\bwgpu::/.test(shipped(file))
  t.deepEqual(offenders(rust, namesWgpu), [])
})

test('no file names a machine or a registry', (t) => {
  const words = /\/(?:work|root|home)\/|registry\.npm|index\.crates/
  const isText = (file: string): boolean =>
    !/\.(safetensors|bin|png|ico)$/.test(file) && !file.startsWith('data/')
  const isBad = (file: string): boolean => words.test(text(file))
  t.deepEqual(offenders(files.filter(isText), isBad), [])
})
