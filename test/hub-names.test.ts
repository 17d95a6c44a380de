import test from 'ava'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hubSettings, type Settings } from '../ts/hub/environment.ts'
import { hubName, hubPage, modelName } from '../ts/hub/name.ts'
import { weightsOf } from '../ts/hub/repository.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { failsWith, tempFolder } from './helpers.ts'

const NAME = { repo: 'owner/name', revision: 'main' }

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

test('names: what is one, and what is a path', (t) => {
  t.deepEqual(hubName('owner/name'), { repo: 'owner/name', revision: 'main' })
  t.deepEqual(hubName('o-w/n.1@v1.0'), { repo: 'o-w/n.1', revision: 'v1.0' })
  t.deepEqual(hubName('o/n@refs/pr/3'), { repo: 'o/n', revision: 'refs/pr/3' })
  t.deepEqual(hubName('o/n:Q4_K_M'), { repo: 'o/n', revision: 'main', tag: 'Q4_K_M' })
  t.deepEqual(hubName('hf://o/n@b/sub/a.gguf'), { repo: 'o/n', revision: 'b', file: 'sub/a.gguf' })
  for (const path of ['./a/b', '../a/b', '/a/b', 'a', 'a/b/c', 'a/b.gguf', 'C:\\a\\b', 'a/b@']) {
    t.is(hubName(path), undefined, path)
  }
  const hub = 'https://hub.test'
  t.deepEqual(hubPage(`${hub}/o/n`, hub), { repo: 'o/n', revision: 'main' })
  t.deepEqual(hubPage(`${hub}/o/n/tree/v1`, hub), { repo: 'o/n', revision: 'v1' })
  t.like(hubPage(`${hub}/o/n/blob/main/a.gguf`, hub), { file: 'a.gguf' })
  for (const other of ['https://a.test/o/n', `${hub}/datasets/a`, `${hub}/o/n/resolve/main/a.gguf`])
    t.is(hubPage(other, hub), undefined, other)
})

test('names: what a card calls a model', (t) => {
  const sha = '0123456789abcdef0123456789abcdef01234567'
  t.is(modelName(`/cache/models--o-w--n.1/snapshots/${sha}`), 'o-w/n.1')
  t.is(modelName(`https://hub.test/owner/name/resolve/${sha}`), 'owner/name')
  t.is(modelName('/models/novels-4m/'), 'novels-4m')
  t.is(modelName('C:\\models\\m.gguf'), 'm.gguf')
})

test('weights: shards by the index, GGUF by its name, nothing by chance', async (t) => {
  const file = (path: string): { path: string; bytes: number; digest: string } => ({
    path,
    bytes: 1,
    digest: '0',
  })
  const pick = async (
    paths: readonly string[],
    more: object = {},
    index?: object,
  ): Promise<unknown> => {
    const texts = index
      ? [['model.safetensors.index.json', text(JSON.stringify(index))] as const]
      : []
    const found = await weightsOf(paths.map(file), { ...NAME, ...more }, memoryStore(texts))
    return [found.file, ...found.files.map(({ path }) => path)]
  }
  const shards = [
    'model.safetensors.index.json',
    'a-1.safetensors',
    'a-2.safetensors',
    'b.safetensors',
  ]
  const map = { weight_map: { x: 'a-1.safetensors', y: 'a-2.safetensors', z: '../out' } }
  t.deepEqual(await pick(shards, {}, map), [undefined, 'a-1.safetensors', 'a-2.safetensors'])
  t.deepEqual(await pick(['model.safetensors', 'b.safetensors']), [undefined, 'model.safetensors'])

  const ggufs = ['m-Q4_K_M.gguf', 'm-Q8_0-00001-of-00002.gguf', 'm-Q8_0-00002-of-00002.gguf']
  t.deepEqual(await pick(ggufs, { tag: 'q4_k_m' }), [ggufs[0], ggufs[0]])
  t.deepEqual(await pick(ggufs, { tag: 'Q8_0' }), [ggufs[1], ggufs[1], ggufs[2]])
  t.deepEqual(await pick(ggufs, { file: ggufs[0] }), [ggufs[0], ggufs[0]])
  t.deepEqual(await pick(['m.gguf', 'mmproj-m.gguf']), ['m.gguf', 'm.gguf'])
  const error = await failsWith(t, 'option', () => pick(ggufs))
  t.regex(error.message, /2 GGUF files.*m-Q4_K_M\.gguf, m-Q8_0-00001/)
  await failsWith(t, 'option', () => pick(ggufs, { tag: 'Q4' }))
  t.regex(
    (await failsWith(t, 'not-found', () => pick(ggufs, { file: 'm-Q4_K_L.gguf' }))).message,
    /nearest is "m-Q4_K_M\.gguf"/,
  )
  await failsWith(t, 'not-a-model', () => pick(['pytorch_model.bin']))
})

test('settings: from the variables and files of the hub tools', async (t) => {
  const home = await tempFolder(t)
  await writeFile(join(home, 'token'), 'hf_file\n')
  await writeFile(join(home, 'other'), ' hf_other ')
  const of = (env: Record<string, string>): Promise<Settings> =>
    hubSettings({ HF_HOME: home, ...env })
  t.like(await of({}), { token: 'hf_file', cache: join(home, 'hub'), offline: false })
  t.like(await of({ HF_TOKEN: 'hf_set' }), { token: 'hf_set' })
  t.like(await of({ HF_TOKEN_PATH: join(home, 'other') }), { token: 'hf_other' })
  t.like(await of({ HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' }), { token: undefined })
  t.like(await of({ HF_HUB_CACHE: '/c', HF_HUB_OFFLINE: 'TRUE', HF_ENDPOINT: 'http://e' }), {
    cache: '/c',
    offline: true,
    endpoint: 'http://e',
  })
  t.true((await hubSettings({ HOME: home })).cache.endsWith('/.cache/huggingface/hub'))
})
