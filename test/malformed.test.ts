import test from 'ava'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, link, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { createApi } from '../ts/api.ts'
import { bindingOf } from '../ts/calls.ts'
import { runProgram } from '../ts/cli/program.ts'
import { terminalOf } from '../ts/cli/terminal.ts'
import { errorFrom, LowbitError } from '../ts/error.ts'
import { nodeHost } from '../ts/host.node.ts'
import { fsStore } from '../ts/store/fs.ts'
import { NAME, openApi, openBinding } from './binding.ts'
import { sink } from './command-line.ts'
import { counted, failsWith, ROOT, safetensors, tempFolder } from './helpers.ts'
import { malformedFiles, malformedIndexes, truncatedFiles } from './malformed.ts'

const api = await openApi()

/** What a rejection may take beside the file's own header. */
const MEMORY_BYTES_MAX = 64 << 20

test(`${NAME}: every malformed file gives its code, from the facade and the command line`, async (t) => {
  const folder = await tempFolder(t)
  for (const [i, entry] of [...malformedFiles(), ...truncatedFiles()].entries()) {
    const path = join(folder, `${i}.safetensors`)
    const bytes = entry.files.get('model.safetensors') ?? new Uint8Array()
    await writeFile(path, bytes)
    const before = process.memoryUsage().rss
    t.is(await codeOf(() => api.inspect(path)), entry.code, entry.name)
    const grown = process.memoryUsage().rss - before - 8 * bytes.length
    t.true(grown < MEMORY_BYTES_MAX, `${entry.name}: ${grown} bytes more`)
    await checkCommandLine(t, ['inspect', path], entry)
  }
})

test(`${NAME}: every malformed index gives its code, from the facade and the command line`, async (t) => {
  const root = await tempFolder(t)
  for (const [i, entry] of malformedIndexes().entries()) {
    const folder = join(root, `${i}`)
    await mkdir(folder)
    await writeFile(join(folder, 'config.json'), '{}')
    for (const [name, bytes] of entry.files) await writeFile(join(folder, name), bytes)
    t.is(await codeOf(() => api.inspect(folder)), entry.code, entry.name)
    await checkCommandLine(t, ['inspect', folder], entry)
  }
})

/** Versions of GGUF, as they stand in the file: only the second and the third are read. */
const VERSIONS: readonly (readonly [number, string])[] = [
  [0, 'version'],
  [1, 'version'],
  [2, 'truncated'],
  [3, 'truncated'],
  [4, 'version'],
  [3 << 24, 'version'],
]

test(`${NAME}: case 12: versions of GGUF, and files that are none`, async (t) => {
  const folder = await tempFolder(t)
  for (const [version, code] of VERSIONS) {
    const path = join(folder, `${version}.gguf`)
    const head = Buffer.from('GGUF\0\0\0\0')
    head.writeUInt32LE(version, 4)
    await writeFile(path, head)
    t.is(await codeOf(() => api.inspect(path)), code, `version ${version}`)
    await checkCommandLine(t, ['inspect', path], { name: `version ${version}`, code })
  }
  for (const [content, code] of [
    ['', 'truncated'],
    ['GG', 'truncated'],
    ['<!DOCTYPE html><html>', 'not-a-model'],
    ['version https://git-lfs.github.com/spec/v1', 'not-a-model'],
  ] as const) {
    const path = join(folder, 'm.gguf')
    await writeFile(path, content)
    t.is(await codeOf(() => api.inspect(path)), code, content)
  }
})

test(`${NAME}: an index that names a link out of the folder opens nothing`, async (t) => {
  const root = await tempFolder(t)
  const secret = join(root, 'secret.safetensors')
  await writeFile(secret, safetensors({ a: counted([2]) }))
  for (const make of [symlink, link]) {
    const folder = join(root, make.name)
    await mkdir(folder)
    await make(secret, join(folder, 'model-1.safetensors'))
    const index = { weight_map: { a: 'model-1.safetensors' } }
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify(index))
    await failsWith(t, 'path-escape', () => api.inspect(folder))
  }
})

test(`${NAME}: a file that changes while a model loads is noticed`, async (t) => {
  const folder = await tempFolder(t)
  const source = fsStore(join(ROOT, 'models/tiny-qwen3'))
  for (const name of await source.list())
    await writeFile(join(folder, name), await source.read(name))
  const binding = await openBinding()
  const weights = (await source.list()).find((name) => name.endsWith('.safetensors'))
  // Between the headers and the first tensor.
  const modelOpen = async (request: string): Promise<number> => {
    await appendFile(join(folder, weights ?? ''), 'x')
    return binding.modelOpen(request)
  }
  const spied = bindingOf((name, args) =>
    Reflect.apply(name === 'modelOpen' ? modelOpen : binding[name], binding, args),
  )
  await failsWith(t, 'file-changed', () => createApi(spied, nodeHost).load(folder))
})

test('the program: a malformed file ends it with 1 and one line', async (t) => {
  const folder = await tempFolder(t)
  const path = join(folder, 'a.safetensors')
  await writeFile(path, '<!DOCTYPE html><html>')
  const child = spawn(process.execPath, [join(ROOT, 'ts/cli/main.ts'), 'inspect', path])
  const [out, err, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  t.is(code, 1)
  t.is(out, '')
  t.regex(err, /^error\[not-a-model\]: [^\n]*\n$/)
})

interface Expected {
  readonly name: string
  readonly code: string
}

async function checkCommandLine(
  t: {
    is: (a: unknown, b: unknown, message: string) => boolean
    regex: (text: string, pattern: RegExp, message: string) => boolean
  },
  args: readonly string[],
  { name, code }: Expected,
): Promise<void> {
  const [out, err] = [sink(), sink()]
  const signal = new AbortController().signal
  const context = { terminal: terminalOf(out, err), signal, api: async () => api, lines: noLines }
  const status = await runProgram(args, context, '0')
  t.is(status, code === 'ok' ? 0 : 1, name)
  if (code === 'ok') return
  t.regex(err.text, new RegExp(`^error\\[${code}\\]: [^\\n]{1,900}\\n$`), name)
  t.is(out.text, '', name)
}

async function* noLines(): AsyncGenerator<string> {
  // No command here reads standard input.
}

async function codeOf(run: () => Promise<unknown>): Promise<string> {
  try {
    await run()
    return 'ok'
  } catch (error) {
    if (!(error instanceof LowbitError)) throw errorFrom(error)
    return error.code
  }
}
