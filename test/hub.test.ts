import test from 'ava'
import { lstat, mkdir, readdir, readFile, readlink, realpath, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createApi } from '../ts/api.ts'
import type { Source } from '../ts/host.ts'
import { browserHost } from '../ts/host.browser.ts'
import { nodeHost } from '../ts/host.node.ts'
import { cachedSource } from '../ts/hub/cache.ts'
import type { Settings } from '../ts/hub/environment.ts'
import type { Progress } from '../ts/watching.ts'
import { fakeBinding } from './fake-binding.ts'
import { counted, failsWith, safetensors, tempFolder } from './helpers.ts'
import { REPO, type RunningHub, serveHub, SHA } from './hub-site.ts'
import { serve } from './site.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** A model of 128 kB among files that are not needed. */
const WEIGHTS = safetensors({ 'a.weight': counted([256, 256]) })
const FILES = {
  'config.json': text('{"model_type":"x"}'),
  'model.safetensors': WEIGHTS,
  'pytorch_model.bin': new Uint8Array(50_000),
  'model-Q4_K_M.gguf': new Uint8Array(50_001),
  'onnx/model.onnx': new Uint8Array(50_002),
  'sub/1_Pooling/config.json': text('{}'),
  'README.md': text('# a model'),
}

const NAME = { repo: REPO, revision: 'main' }

function settingsOf(hub: RunningHub, cache: string): Settings {
  return { endpoint: hub.endpoint, token: undefined, cache, offline: false }
}

async function weights({ store, file = 'model.safetensors' }: Source): Promise<Uint8Array> {
  return store.read(file)
}

test('cache: what is needed comes into the standard layout, once', async (t) => {
  const hub = await serveHub(t, { files: FILES })
  const cache = await tempFolder(t)
  const seen: Progress[] = []
  const watch = { onProgress: (state: Progress) => void seen.push(state) }
  const source = await cachedSource(settingsOf(hub, cache), NAME, watch)
  t.deepEqual(await weights(source), WEIGHTS)
  t.deepEqual(await source.store.list(), [
    'README.md',
    'config.json',
    'model.safetensors',
    'sub/1_Pooling/config.json',
  ])
  const root = join(cache, 'models--owner--name')
  t.is(await readFile(join(root, 'refs/main'), 'utf8'), SHA)
  const link = join(root, 'snapshots', SHA, 'model.safetensors')
  t.regex(await readlink(link), /^\.\.\/\.\.\/blobs\/[\da-f]{64}$/)
  t.is(await realpath(link), join(await realpath(root), 'blobs', (await readlink(link)).slice(12)))
  t.is((await readdir(join(root, 'blobs'))).length, 4)
  t.true(seen.every(({ stage, done, total }) => stage === 'download' && done <= total))
  t.like(seen.at(-1), { done: WEIGHTS.length, total: WEIGHTS.length })

  const before = hub.sent
  await cachedSource(settingsOf(hub, cache), NAME, {})
  t.is(hub.sent, before, 'nothing comes twice')
  t.true(hub.seen.every((line) => !/\.(bin|gguf|onnx)/.test(line)))
})

test('cache: without a network what is there is used', async (t) => {
  const hub = await serveHub(t, { files: FILES })
  const cache = await tempFolder(t)
  const settings = settingsOf(hub, cache)
  const missing = { ...settings, offline: true }
  const error = await failsWith(t, 'not-found', () => cachedSource(missing, NAME, {}))
  t.regex(error.message, /HF_HUB_OFFLINE/)
  await cachedSource(settings, NAME, {})
  const asked = hub.seen.length
  t.deepEqual(await weights(await cachedSource(missing, NAME, {})), WEIGHTS)
  t.is(hub.seen.length, asked)
  await hub.close()
  t.deepEqual(await weights(await cachedSource(settings, NAME, {})), WEIGHTS)
  const other = { ...NAME, revision: 'v1' }
  await failsWith(t, 'io', () => cachedSource(settings, other, {}))
})

test('cache: what the hub tools have left there is used', async (t) => {
  const hub = await serveHub(t, { files: FILES })
  const cache = await tempFolder(t)
  const folder = join(cache, 'models--owner--name/snapshots', SHA)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'model.safetensors'), WEIGHTS)
  // On Windows files stand in the snapshot itself.
  await writeFile(join(folder, 'config.json'), FILES['config.json'])
  const settings = { ...settingsOf(hub, cache), offline: true }
  const source = await cachedSource(settings, { ...NAME, revision: SHA }, {})
  t.deepEqual(await weights(source), WEIGHTS)
})

test('download: a line that breaks is gone on with, and so is a call that was stopped', async (t) => {
  const site = { files: FILES, cut: 50_000 }
  const hub = await serveHub(t, site)
  const cache = await tempFolder(t)
  t.deepEqual(await weights(await cachedSource(settingsOf(hub, cache), NAME, {})), WEIGHTS)
  t.true(hub.seen.some((line) => line.includes('bytes=50000-')))
  t.true(hub.sent < WEIGHTS.length + 2000, `${hub.sent}`)

  const other = await tempFolder(t)
  const abort = new AbortController()
  const stop = {
    signal: abort.signal,
    onProgress: ({ done }: Progress) => {
      if (done > 40_000) abort.abort()
    },
  }
  await failsWith(t, 'aborted', () => cachedSource(settingsOf(hub, other), NAME, stop))
  const blobs = join(other, 'models--owner--name/blobs')
  const part = (await readdir(blobs)).find((name) => name.endsWith('-part')) ?? ''
  const { size } = await lstat(join(blobs, part))
  t.true(size > 0 && size < WEIGHTS.length)
  t.deepEqual(await readdir(join(other, '.locks/models--owner--name')), [])
  const from = hub.seen.length
  t.deepEqual(await weights(await cachedSource(settingsOf(hub, other), NAME, {})), WEIGHTS)
  t.true(hub.seen.slice(from).some((line) => line.includes(`bytes=${size}-`)))
  t.false((await readdir(blobs)).some((name) => name.endsWith('-part')))
})

test('download: a server without ranges sends the whole again', async (t) => {
  const site: Parameters<typeof serveHub>[1] = { files: FILES, ranges: false, cut: 50_000 }
  const hub = await serveHub(t, site)
  const cache = await tempFolder(t)
  await failsWith(t, 'truncated', () => cachedSource(settingsOf(hub, cache), NAME, {}))
  delete site.cut
  t.deepEqual(await weights(await cachedSource(settingsOf(hub, cache), NAME, {})), WEIGHTS)
})

test('download: wrong bytes never get their name', async (t) => {
  const site = { files: FILES, damaged: true }
  const hub = await serveHub(t, site)
  const cache = await tempFolder(t)
  const error = await failsWith(t, 'io', () => cachedSource(settingsOf(hub, cache), NAME, {}))
  t.regex(error.message, /not those that the hub announces/)
  const blobs = await readdir(join(cache, 'models--owner--name/blobs'))
  t.true(
    blobs.every((name) => name.length === 40),
    blobs.join(' '),
  )
  site.damaged = false
  // A part that another tool or a disk has spoilt is thrown away.
  const digest = /[\da-f]{64}/.exec((await listing(hub))[0] ?? '')?.[0] ?? ''
  const part = join(cache, `models--owner--name/blobs/${digest}.lowbit-part`)
  await writeFile(part, new Uint8Array(1000))
  t.deepEqual(await weights(await cachedSource(settingsOf(hub, cache), NAME, {})), WEIGHTS)
})

/** SHA-256 of the large file of weights, as the hub lists it. */
async function listing(hub: RunningHub): Promise<string[]> {
  const pages = await Promise.all(
    [0, 3, 6].map(async (cursor) => {
      const tree = `${hub.endpoint}/api/models/owner/name/tree/${SHA}?cursor=${cursor}`
      return (await fetch(tree)).text()
    }),
  )
  return [
    /"path":"model\.safetensors".*?"lfs":\{"oid":"([\da-f]{64})"/.exec(pages.join(''))?.[1] ?? '',
  ]
}

test('cache: two calls at once fetch once', async (t) => {
  const hub = await serveHub(t, { files: FILES })
  const settings = settingsOf(hub, await tempFolder(t))
  const sources = await Promise.all([
    cachedSource(settings, NAME, {}),
    cachedSource(settings, NAME, {}),
  ])
  for (const source of sources) t.deepEqual(await weights(source), WEIGHTS)
  t.is(hub.seen.filter((line) => line.startsWith('store')).length, 1)
})

test('refusals: each says what it is and what helps', async (t) => {
  const hub = await serveHub(t, { files: FILES, gate: 'hf_right' })
  const settings = settingsOf(hub, await tempFolder(t))
  const gated = await failsWith(t, 'unauthorized', () => cachedSource(settings, NAME, {}))
  t.regex(
    gated.message,
    /gated.*ask for access at http:\/\/127\.0\.0\.1:\d+\/owner\/name.*HF_TOKEN/,
  )
  const absent = { ...NAME, repo: 'owner/other' }
  const error = await failsWith(t, 'not-found', () => cachedSource(settings, absent, {}))
  t.regex(error.message, /check the name.*HF_TOKEN/)
  const bad = { ...settings, token: 'hf_wrong' }
  await failsWith(t, 'unauthorized', () => cachedSource(bad, absent, {}))
  await failsWith(t, 'unauthorized', () => cachedSource(bad, NAME, {}))
  const revision = { ...NAME, revision: 'v9' }
  t.regex(
    (await failsWith(t, 'not-found', () => cachedSource(settings, revision, {}))).message,
    /no such revision, in owner\/name@v9/,
  )
  const right = { ...settings, token: 'hf_right' }
  t.deepEqual(await weights(await cachedSource(right, NAME, {})), WEIGHTS)
  t.true(hub.seen.every((line) => line.startsWith('hub') || !line.includes('token')))
})

test('refusals: a busy hub is asked again; a listing that leads out is refused', async (t) => {
  const busy = await serveHub(t, { files: FILES, busy: 2 })
  t.truthy(await cachedSource(settingsOf(busy, await tempFolder(t)), NAME, {}))
  const portal = {
    ...settingsOf(busy, await tempFolder(t)),
    endpoint: await serve(t, {}, { page: '<html>' }),
  }
  const error = await failsWith(t, 'io', () => cachedSource(portal, NAME, {}))
  t.regex(error.message, /not understood.*HF_ENDPOINT/)
  for (const claims of ['../../../evil.json', '/etc/x.json', 'a\\b.json']) {
    const hub = await serveHub(t, { files: { 'a.json': text('{}') }, claims })
    const cache = await tempFolder(t)
    await failsWith(t, 'path-escape', () => cachedSource(settingsOf(hub, cache), NAME, {}))
    t.deepEqual(await readdir(cache), [])
  }
})

test.serial('host: a folder of the same name wins; inspect fetches headers only', async (t) => {
  const hub = await serveHub(t, { files: FILES })
  const home = await tempFolder(t)
  const before = { ...process.env }
  t.teardown(() => {
    process.env = before
  })
  process.env = { ...before, HF_ENDPOINT: hub.endpoint, HF_HOME: home, HF_HUB_OFFLINE: '0' }
  const api = createApi(fakeBinding(), nodeHost)
  for (const place of [`${REPO}@v1`, `${hub.endpoint}/owner/name`]) {
    t.like(await api.inspect(place), { modelType: 'x', parameters: 256 * 256 })
  }
  t.true(hub.sent < 20_000, `${hub.sent} bytes for two headers`)
  t.deepEqual(await readdir(home), [])

  const seen: Progress[] = []
  const model = await api.load(REPO, { onProgress: (state) => void seen.push(state) })
  t.true(model.place.startsWith(home))
  t.true(seen.some(({ stage }) => stage === 'download'))
  await model.dispose()

  const folder = await tempFolder(t)
  await mkdir(join(folder, REPO), { recursive: true })
  await writeFile(join(folder, REPO, 'model.safetensors'), WEIGHTS)
  const asked = hub.seen.length
  const cwd = process.cwd()
  process.chdir(folder)
  t.teardown(() => process.chdir(cwd))
  t.is((await api.inspect(REPO)).modelType, null)
  t.is(hub.seen.length, asked)
})

test('pages: a model of the hub is read by ranges where it is', async (t) => {
  const hub = await serveHub(t, { files: FILES, gate: 'hf_right' })
  const host = browserHost({ endpoint: hub.endpoint, token: 'hf_right' })
  const { store } = await host.source(REPO)
  t.deepEqual(await store.read('model.safetensors', { offset: 8, length: 4 }), WEIGHTS.slice(8, 12))
  t.true((await store.list()).includes('config.json'))
  t.true(hub.sent < 1000)
  const stranger = await browserHost({ endpoint: hub.endpoint }).source(REPO)
  await failsWith(t, 'unauthorized', () => stranger.store.read('config.json'))
})
