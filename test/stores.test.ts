import test, { type ExecutionContext } from 'ava'
import { appendFile, link, mkdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fetchStore } from '../ts/store/fetch.ts'
import { fsStore } from '../ts/store/fs.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { checkName, type Store } from '../ts/store/store.ts'
import { failsWith, tempFolder } from './helpers.ts'
import { serve } from './site.ts'

const FILES = { 'config.json': '{"a":1}', 'model.safetensors': '0123456789' }

/** Every store, holding the same files. */
const STORES: Readonly<Record<string, (t: ExecutionContext) => Promise<Store>>> = {
  async fs(t) {
    const folder = await tempFolder(t)
    for (const [name, data] of Object.entries(FILES)) await writeFile(join(folder, name), data)
    return fsStore(folder)
  },
  async memory() {
    return memoryStore(Object.entries(FILES).map(([name, data]) => [name, bytes(data)]))
  },
  fetch: async (t) => fetchStore(await serve(t, FILES, {})),
  'fetch without ranges': async (t) => fetchStore(await serve(t, FILES, { ranges: false })),
  'fetch without lengths': async (t) => fetchStore(await serve(t, FILES, { lengths: false })),
  'fetch through a bad line': async (t) => fetchStore(await serve(t, FILES, { cutFirst: true })),
}

const WRITABLE = ['fs', 'memory']

for (const [name, open] of Object.entries(STORES)) {
  test(`${name}: lists, sizes and reads whole files and ranges`, async (t) => {
    const store = await open(t)
    t.deepEqual(await store.list(), ['config.json', 'model.safetensors'])
    t.is(await store.size('model.safetensors'), 10)
    t.is(text(await store.read('model.safetensors')), '0123456789')
    t.is(text(await store.read('model.safetensors', { offset: 3, length: 4 })), '3456')
    t.is(text(await store.read('model.safetensors', { offset: 10, length: 0 })), '')
    t.is(await store.identity('config.json'), await store.identity('config.json'))
  })

  test(`${name}: absent files and ranges past the end have their codes`, async (t) => {
    const store = await open(t)
    await failsWith(t, 'not-found', () => store.size('absent'))
    await failsWith(t, 'not-found', () => store.read('absent'))
    await failsWith(t, 'truncated', () => store.read('model.safetensors', { offset: 5, length: 6 }))
  })

  test(`${name}: names that lead out are refused`, async (t) => {
    const store = await open(t)
    await failsWith(t, 'path-escape', () => store.read('../x'))
  })
}

for (const name of WRITABLE) {
  const open = STORES[name] ?? (async () => memoryStore())

  test(`${name}: a file appears when it is committed, and not before`, async (t) => {
    const store = await open(t)
    const file = await store.begin('sub/new.bin', 6)
    await file.write(3, bytes('def'))
    await file.write(0, bytes('abc'))
    t.is(text(await file.read({ offset: 2, length: 2 })), 'cd')
    await file.flush()
    t.false((await store.list()).includes('sub/new.bin'))
    await file.commit()
    t.is(text(await store.read('sub/new.bin')), 'abcdef')
    t.true((await store.list()).includes('sub/new.bin'))
  })

  test(`${name}: an unfinished file is gone on with, and so is a finished one`, async (t) => {
    const store = await open(t)
    const first = await store.begin('a', 4)
    await first.write(0, bytes('ab'))
    await first.suspend()
    const second = await store.begin('a', 4)
    await second.write(2, bytes('cd'))
    await second.commit()
    t.is(text(await store.read('a')), 'abcd')
    const third = await store.begin('a', 4)
    t.is(text(await third.read({ offset: 0, length: 4 })), 'abcd')
    await third.commit()
    t.is(text(await store.read('a')), 'abcd')
  })

  test(`${name}: a short file cannot be committed and an aborted one is gone`, async (t) => {
    const store = await open(t)
    const short = await store.begin('short', 4)
    await short.write(0, bytes('ab'))
    await failsWith(t, 'truncated', () => short.commit())
    await short.abort()
    t.false((await store.list()).includes('short'))
    await failsWith(t, 'truncated', async () => (await store.begin('b', 1)).write(0, bytes('ab')))
  })

  test(`${name}: one lock at a time`, async (t) => {
    const store = await open(t)
    const release = await store.lock()
    await failsWith(t, 'locked', () => store.lock())
    await release()
    await (
      await store.lock()
    )()
    t.pass()
  })
}

test('fs: a file that changes between reads is noticed', async (t) => {
  const folder = await tempFolder(t)
  const path = join(folder, 'a')
  await writeFile(path, '0123456789')
  const store = fsStore(folder)
  await store.read('a', { offset: 0, length: 4 })
  await appendFile(path, 'x')
  await failsWith(t, 'file-changed', () => store.read('a', { offset: 4, length: 4 }))

  await writeFile(join(folder, 'b'), '01')
  await store.read('b')
  await utimes(join(folder, 'b'), 1, 1)
  await failsWith(t, 'file-changed', () => store.read('b'))
})

test('fetch: a file that changes between reads is noticed', async (t) => {
  const site = { tag: '"1"' }
  const store = fetchStore(await serve(t, FILES, site))
  await store.read('config.json')
  site.tag = '"2"'
  await failsWith(t, 'file-changed', () => store.read('config.json'))
})

test('fetch: what lies beside an encoder is asked for by name', async (t) => {
  const beside = ['1_Pooling/config.json', '2_Dense/model.safetensors', 'modules.json']
  const files = Object.fromEntries([...Object.keys(FILES), ...beside].map((name) => [name, '{}']))
  const found = await fetchStore(await serve(t, { ...files, 'unheard-of': '' }, {})).list()
  t.deepEqual(found, Object.keys(files).toSorted())
})

test('fetch: sends its headers, and its query with every file', async (t) => {
  const seen: string[] = []
  const address = await serve(t, FILES, { seen })
  await fetchStore(`${address}?token=1`, { headers: { authorization: 'x' } }).read('config.json')
  t.true(seen.every((line) => line === '/config.json?token=1 x'))
})

test('fs: the lock of a dead process is taken over', async (t) => {
  const folder = await tempFolder(t)
  const store = fsStore(folder)
  await (
    await store.lock()
  )()
  const { hostname } = await import('node:os')
  await writeFile(
    join(folder, 'lock'),
    JSON.stringify({ pid: 2 ** 22 - 1, host: hostname(), started: '1' }),
  )
  await (
    await store.lock()
  )()
  // The same number in another process: start times differ.
  const now = { pid: process.pid, host: hostname(), started: '1' }
  await writeFile(join(folder, 'lock'), JSON.stringify(now))
  await (
    await store.lock()
  )()
  await writeFile(join(folder, 'lock'), JSON.stringify({ ...now, host: 'elsewhere' }))
  const error = await failsWith(t, 'locked', () => store.lock())
  t.regex(error.message, /delete the lock file/)
})

test('checkName: refuses what is no plain path below the folder', async (t) => {
  const bad = [
    '',
    '/etc/passwd',
    '../a',
    'a/../b',
    'a//b',
    './a',
    'a\\b',
    'C:a',
    'http://a/b',
    'a\0b',
    'a'.repeat(2000),
  ]
  for (const name of bad) await failsWith(t, 'path-escape', () => checkName(name))
  t.notThrows(() => checkName('sub/model-00001-of-00002.safetensors'))
})

test('fs: folders are made one below the other; where none can be, it says so', async (t) => {
  const root = await tempFolder(t)
  const store = fsStore(join(root, 'a/b/c'))
  await (
    await store.lock()
  )()
  t.deepEqual(await store.list(), [])
  await writeFile(join(root, 'file'), '')
  const below = fsStore(join(root, 'file/a'))
  const error = await failsWith(t, 'output-path', () => below.lock())
  t.true(error.message.includes(join(root, 'file')), error.message)
  // Below /proc a system call says that the parent is missing, which it is not.
  if (process.platform !== 'linux') return t.log('skipped: there is no /proc')
  const proc = fsStore('/proc/lowbit/a')
  const refused = await failsWith(t, 'output-path', () => proc.lock())
  t.regex(refused.message, /\/proc\/lowbit\b/)
  await failsWith(t, 'output-path', () => proc.begin('x', 1))
})

test('fs.guard: refuses links out of the folder, but not those of the Hugging Face cache', async (t) => {
  const root = await tempFolder(t)
  const outside = join(root, 'secret.safetensors')
  await writeFile(outside, 'secret')
  const folder = join(root, 'model')
  await mkdir(folder)
  const store = fsStore(folder)
  await symlink(outside, join(folder, 'symlink'))
  await symlink(root, join(folder, 'folder'))
  await link(outside, join(folder, 'hardlink'))
  await writeFile(join(folder, 'plain'), '')
  await symlink('plain', join(folder, 'inside'))
  for (const name of ['symlink', 'folder/secret.safetensors', 'hardlink']) {
    await failsWith(t, 'path-escape', () => store.guard(name))
  }
  for (const name of ['plain', 'inside', 'absent']) await t.notThrowsAsync(store.guard(name))
  // What the user's own folder links to is followed.
  t.is(text(await store.read('symlink')), 'secret')

  const snapshot = join(root, 'models--a--b/snapshots/0123')
  const blob = join(root, 'models--a--b/blobs/ff')
  await mkdir(snapshot, { recursive: true })
  await mkdir(dirname(blob))
  await writeFile(blob, '')
  await symlink('../../blobs/ff', join(snapshot, 'model-1.safetensors'))
  await t.notThrowsAsync(fsStore(snapshot).guard('model-1.safetensors'))
})

function bytes(data: string): Uint8Array {
  return new TextEncoder().encode(data)
}

function text(data: Uint8Array): string {
  return new TextDecoder().decode(data)
}
