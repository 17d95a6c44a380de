import test from 'ava'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { NOVELS, ROOT, tempFolder } from './helpers.ts'

const readme = await readFile(join(ROOT, 'README.md'), 'utf8')

test('README: its table of formats is the one that is printed', async (t) => {
  const ran = await run(ROOT, [join(ROOT, 'ts/cli/main.ts'), 'formats', '--markdown'])
  t.is(ran.status, 0, ran.err)
  const [, table = ''] =
    /<!-- formats:[^>]*-->\n\n([\s\S]*?)\n<!-- formats end -->/.exec(readme) ?? []
  t.is(table, ran.out)
})

test('README: its example runs as it stands', async (t) => {
  t.timeout(300_000)
  const folder = await tempFolder(t)
  await symlink(NOVELS, join(folder, 'model'))
  await mkdir(join(folder, 'texts'))
  await copyFile(join(ROOT, 'data/eval.txt'), join(folder, 'texts/a.txt'))
  const [, code = ''] = /```ts\n([\s\S]*?)```/.exec(readme) ?? []
  const entry = pathToFileURL(join(ROOT, 'ts/index.node.ts')).href
  await writeFile(join(folder, 'example.ts'), code.replace("'lowbit'", `'${entry}'`))
  const { status, out, err } = await run(folder, ['example.ts'])
  t.is(status, 0, err)
  t.regex(out, /^8399168 bytes became \d{7}\n/)
  const figures = /perplexity ([\d.]+), ([\d.]+) nats from the original/.exec(out)
  t.true(Number(figures?.[1]) < 46.128 * 1.005, out)
  t.true(Number(figures?.[2]) < 0.006, out)

  // The commands, on what the example has made.
  const shell = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1]).join('')
  const commands = [...shell.matchAll(/^lowbit (\S+) ([^#\n]*)/gm)]
  t.true(commands.length >= 6)
  for (const [, name = '', rest = ''] of commands) {
    const args = [...rest.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '')
    const force = name === 'quantize' ? ['--force'] : []
    const command = [join(ROOT, 'ts/cli/main.ts'), name, ...args, ...force]
    const ran = await run(folder, command)
    t.is(ran.status, 0, `${name}: ${ran.err}`)
  }
})

async function run(
  folder: string,
  args: readonly string[],
): Promise<{ status: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  const closed = once(child, 'close')
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)])
  const [status]: (number | null)[] = await closed
  return { status: status ?? null, out, err }
}
