import test, { type ExecutionContext } from 'ava'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { nodeHost } from '../ts/host.node.ts'
import { fsStore } from '../ts/store/fs.ts'
import { NOVELS, ROOT, tempFolder } from './helpers.ts'

/** A quantization of a few seconds, in every stage of which a kill can fall. */
const SIZES = ['--samples', '16', '--length', '128', '--max-shard-size', '2MB']
const FLAGS = [...SIZES, '--kv-cache', 'fp8-head']

/** Rounds, and kills in each before it is let through. */
const ROUNDS = 5
const KILLS = 4

const PROGRAM = [join(ROOT, 'ts/cli/main.ts'), 'quantize', NOVELS, ...FLAGS]

test.serial('kill -9 at twenty random moments, then rerun: the same bytes each time', async (t) => {
  t.timeout(600_000)
  const root = await tempFolder(t)
  const begun = performance.now()
  await finish(t, join(root, 'whole'))
  const whole = await digests(join(root, 'whole'))
  const seconds = (performance.now() - begun) / 1000
  const random = randomFrom(t)
  for (let round = 0; round < ROUNDS; round++) {
    const out = join(root, `out-${round}`)
    for (let kill = 0; kill < KILLS; kill++) {
      const child = spawn(process.execPath, [...PROGRAM, '-o', out], { stdio: 'ignore' })
      const ended = once(child, 'close')
      await Promise.race([pause(random() * seconds * 1000), ended])
      child.kill('SIGKILL')
      await ended
      // What has its final name is whole.
      if (await isThere(out)) t.deepEqual(await digests(out), whole)
    }
    if (!(await isThere(out))) await finish(t, out)
    t.deepEqual(await digests(out), whole)
    t.false(await isThere(`${out}.partial`))
  }
})

test.serial('kill -9 during a conversion, then rerun: the same bytes each time', async (t) => {
  t.timeout(300_000)
  const root = await tempFolder(t)
  const source = join(root, 'source')
  await finish(t, source, ['--method', 'rtn', '--scheme', 'w8'])
  const program = [join(ROOT, 'ts/cli/main.ts'), 'convert', source, '--max-shard-size', '2MB']
  const flags = ['--format', 'gptq', '--scheme', 'w4g128']
  const begun = performance.now()
  t.is((await run([...program, ...flags, '-o', join(root, 'whole')])).code, 0)
  const whole = await digests(join(root, 'whole'))
  const seconds = (performance.now() - begun) / 1000
  const random = randomFrom(t)
  const out = join(root, 'out')
  for (let kill = 0; kill < 2 * KILLS && !(await isThere(out)); kill++) {
    const child = spawn(process.execPath, [...program, ...flags, '-o', out], { stdio: 'ignore' })
    const ended = once(child, 'close')
    await Promise.race([pause((0.3 + 0.7 * random()) * seconds * 1000), ended])
    child.kill('SIGKILL')
    await ended
  }
  if (!(await isThere(out))) t.is((await run([...program, ...flags, '-o', out])).code, 0)
  t.deepEqual(await digests(out), whole)
  t.false(await isThere(`${out}.partial`))
})

test.serial('one thread and two give the same bytes', async (t) => {
  const root = await tempFolder(t)
  for (const method of ['rtn', 'gptq']) {
    const folders = await Promise.all(
      ['1', '2'].map(async (threads) => {
        const out = join(root, method + threads)
        await finish(t, out, ['--method', method, '--threads', threads])
        return digests(out)
      }),
    )
    t.deepEqual(folders[0], folders[1])
  }
})

test.serial('a resume on another instruction set refuses or gives the same bytes', async (t) => {
  const root = await tempFolder(t)
  for (const method of ['rtn', 'gptq']) {
    const [out, whole] = [join(root, method), join(root, `${method}-whole`)]
    await finish(t, whole, ['--method', method])
    await stopHalfway(t, out, ['--method', method])
    const { code, err } = await run([...PROGRAM, '-o', out, '--method', method, '--isa', 'scalar'])
    if (code === 0) t.deepEqual(await digests(out), await digests(whole))
    else t.regex(err, /^error\[resume-mismatch\]: [^\n]*instruction set/)
  }
})

test.serial('SIGINT ends a quantization within 2 s and it can be gone on with', async (t) => {
  const out = join(await tempFolder(t), 'out')
  const slow = ['--samples', '128', '--length', '512']
  const child = spawn(process.execPath, [...PROGRAM, '-o', out, ...slow], { stdio: 'ignore' })
  await journalOf(out, 2)
  const asked = performance.now()
  child.kill('SIGINT')
  const [code] = await once(child, 'close')
  t.is(code, 130)
  t.true(performance.now() - asked < 2000)
  t.false(await isThere(out))
  const { out: json } = await run([...PROGRAM, '-o', out, ...slow, '--json'])
  t.true(JSON.parse(json).resumed)
})

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function run(args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, args)
  let [out, err] = ['', '']
  child.stdout.on('data', (data: Buffer) => (out += data.toString()))
  child.stderr.on('data', (data: Buffer) => (err += data.toString()))
  const [code]: (number | null)[] = await once(child, 'close')
  return { code: code ?? null, out, err }
}

async function finish(
  t: ExecutionContext,
  out: string,
  flags: readonly string[] = [],
): Promise<void> {
  const { code, err } = await run([...PROGRAM, '-o', out, ...flags])
  t.is(code, 0, err)
}

async function stopHalfway(
  t: ExecutionContext,
  out: string,
  flags: readonly string[],
): Promise<void> {
  const child = spawn(process.execPath, [...PROGRAM, '-o', out, ...flags], { stdio: 'ignore' })
  await journalOf(out, 2)
  child.kill('SIGKILL')
  await once(child, 'close')
  t.false(await isThere(out))
}

/** Waits until the journal has some lines. */
async function journalOf(out: string, lines: number): Promise<void> {
  const { readFile } = await import('node:fs/promises')
  for (let tries = 0; tries < 2000; tries++) {
    const text = await readFile(`${out}.partial/journal.jsonl`, 'utf8').catch(() => '')
    if (text.split('\n').length > lines) return
    await pause(10)
  }
}

async function digests(folder: string): Promise<Record<string, string>> {
  const store = fsStore(folder)
  const files: Record<string, string> = {}
  for (const name of await readdir(folder)) {
    const hash = nodeHost.sha256()
    hash.update(await store.read(name))
    files[name] = hash.hex()
  }
  return files
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** A generator with its seed in the log, so that a failure can be repeated. */
function randomFrom(t: ExecutionContext): () => number {
  let state = Date.now() % 2 ** 31
  t.log(`seed ${state}`)
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) % 2 ** 31
    return Math.abs(state) / 2 ** 31
  }
}
