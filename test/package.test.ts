/** The package as it would be published: packed, installed elsewhere, imported, bundled, type-checked. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import test from 'ava'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))
const project = mkdtempSync(join(tmpdir(), 'lowbit-package-'))

// The Node of the system, which may be older than the one that runs the tests: users have that one.
const path = (process.env['PATH'] ?? '')
  .split(delimiter)
  .filter((folder) => !folder.endsWith(join('node_modules', '.bin')))
const env = { ...process.env, PATH: path.join(delimiter) }

/** What `npm pack --json` says about a tarball. */
interface Packed {
  readonly filename: string
  readonly size: number
  readonly files: readonly { readonly path: string }[]
}

let packed: Packed

function run(command: string, args: readonly string[], cwd = project): string {
  return execFileSync(command, args, { cwd, env, encoding: 'utf8', timeout: 100_000 })
}

/** Runs a module that imports the installed package. */
function evaluate(code: string): string {
  const file = join(project, 'use.mjs')
  writeFileSync(file, code)
  return run('node', [file]).trim()
}

test.before(() => {
  const list: Packed[] = JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], root),
  )
  const [only] = list
  if (!only) throw new Error('npm pack made nothing')
  packed = only
  writeFileSync(join(project, 'package.json'), '{ "private": true, "type": "module" }')
  const quiet = ['--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error']
  // The set-up has just fetched every dependency, so that npm finds them in its cache.
  run('npm', ['install', '--prefer-offline', ...quiet, join(project, packed.filename)])
})

test.after.always(() => rmSync(project, { recursive: true, force: true }))

test.serial('package: holds what runs and nothing else', (t) => {
  const paths = packed.files.map((file) => file.path)
  for (const wanted of ['dist/index.node.js', 'dist/index.browser.js', 'dist/cli/main.js']) {
    t.true(paths.includes(wanted), wanted)
  }
  t.true(paths.some((file) => /^native\/lowbit\..*\.node$/.test(file)))
  const expected = /^(dist|native|wasm|data)\/|^(README|CHANGELOG|LICENSE|package)(\.md|\.json)?$/
  t.deepEqual(
    paths.filter((file) => !expected.test(file)),
    [],
  )
  t.true(packed.size <= 20_000_000, `${packed.size} bytes are more than 20 MB`)
})

test.serial('package: Node imports it', (t) => {
  const names = evaluate(`import * as lowbit from 'lowbit'
console.log(Object.keys(lowbit).sort().join(' '), typeof (await lowbit.catalog()).version)`)
  for (const name of ['quantize', 'load', 'inspect', 'evaluate', 'string']) {
    t.regex(names, new RegExp(`\\b${name}\\b`))
  }
})

test.serial('package: its command runs', (t) => {
  const manifest: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  t.is(run(join(project, 'node_modules', '.bin', 'lowbit'), ['--version']).trim(), manifest.version)
})

test.serial('package: a bundler takes the browser entry', async (t) => {
  const entry = join(project, 'page.js')
  writeFileSync(entry, `import { load } from 'lowbit'\nglobalThis.load = load\n`)
  const { metafile, warnings } = await build({
    entryPoints: [entry],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    outfile: join(project, 'page.bundle.js'),
    metafile: true,
    logLevel: 'silent',
  })
  t.deepEqual(warnings, [])
  const inputs = Object.keys(metafile.inputs)
  t.true(inputs.some((file) => file.endsWith('dist/index.browser.js')))
  t.false(inputs.some((file) => file.includes('index.node')))
})

test.serial('package: its types hold in a strict project', (t) => {
  const folder = join(project, 'types')
  mkdirSync(folder)
  writeFileSync(
    join(folder, 'use.ts'),
    `import { evaluate, load, quantize } from 'lowbit'
const report = await quantize('./model', { out: './model-w4' })
const bytes: number = report.bytes
const model = await load('./model-w4', { device: 'auto', compute: 'auto' })
let text = ''
for await (const piece of model.generate('Once', { maxTokens: 8 })) text += piece
const { perplexity }: { perplexity: number } = await evaluate(model, { window: 512 })
export { bytes, perplexity, text }
`,
  )
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023']
  t.notThrows(() => run(process.execPath, [tsc, ...options, 'use.ts'], folder))
})

test.serial('package: the schema of recipes is reachable by its subpath', (t) => {
  const title = evaluate(`import { readFile } from 'node:fs/promises'
const place = new URL(import.meta.resolve('lowbit/recipe.schema.json'))
console.log(JSON.parse(await readFile(place, 'utf8')).title)`)
  t.is(title, 'lowbit recipe')
})

test.serial('package: the wasm module is valid here and reachable by its subpath', (t) => {
  const wasm = join(project, 'node_modules', 'lowbit', 'wasm', 'lowbit_bg.wasm')
  if (!existsSync(wasm)) {
    t.log('skipped: the wasm module was not built')
    t.pass()
    return
  }
  // What a page downloads.
  t.true(gzipSync(readFileSync(wasm)).length < 1_500_000)
  const answer = evaluate(`import { readFile } from 'node:fs/promises'
const place = new URL(import.meta.resolve('lowbit/lowbit.wasm'))
console.log(WebAssembly.validate(await readFile(place)))`)
  t.is(answer, 'true')
})
