import test from 'ava'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { createApi } from '../ts/api.ts'
import { nodeHost } from '../ts/host.node.ts'
import { memoryStore } from '../ts/store/memory.ts'
import {
  chinese,
  dirtyRows,
  english,
  folderOf,
  linesOf,
  paragraph,
  parquet,
  serveHub,
} from './calibration-sources.ts'
import { fakeBinding } from './fake-binding.ts'
import { failsWith, NOVELS } from './helpers.ts'

const api = createApi(fakeBinding({ context: 1024 }), nodeHost)
const small = { samples: 8, length: 64, model: NOVELS } as const

test('calibrate: Parquet, gzip, standard input and bytes are read like files', async (t) => {
  const texts = Array.from({ length: 12 }, (_, i) => paragraph(english, i))
  const table = parquet(texts)
  const { data } = await folderOf(t, {
    'a.parquet': table,
    'b.txt.gz': gzipSync(Array.from({ length: 12 }, (_, i) => paragraph(chinese, i)).join('\n')),
  })
  const report = await api.calibrate(data, small)
  t.deepEqual(
    report.sources.map(({ format, documents, skipped }) => [format, documents, skipped]),
    [
      ['parquet', 12, 0],
      ['text', 1, 0],
    ],
  )
  t.true(report.sources.every((source) => source.sha256?.length === 64))
  t.is(report.out, null)
  const other = await api.calibrate({ name: 'x.parquet', bytes: table }, { ...small, rows: 5 })
  t.like(other.sources[0], { documents: 5, whole: false })
  t.is(other.sources[0]?.sha256, undefined)
  const store = memoryStore([['rows.jsonl', new TextEncoder().encode(dirtyRows(40))]])
  const out = memoryStore()
  await api.calibrate(store, { ...small, out })
  t.deepEqual([...out.files.keys()].toSorted(), ['set.jsonl', 'set.manifest.json'])
  await failsWith(t, 'dataset', () =>
    api.calibrate({ name: 'x.parquet', bytes: table.slice(9) }, {}),
  )
  const wrong = { name: 'x.parquet', bytes: parquet(texts, 'body') }
  const error = await failsWith(t, 'dataset', () => api.calibrate(wrong, small))
  t.regex(error.message, /no field "text", only "id", "body"/)
  t.is((await api.calibrate(wrong, { ...small, field: 'body' })).documents.read, 12)
})

test('calibrate: a data set by its name comes from the hub, its rows limited', async (t) => {
  const table = parquet(Array.from({ length: 12 }, (_, i) => paragraph(english, i)))
  const path = '/api/datasets/org/set/parquet/small/train/0.parquet'
  const seen: string[] = []
  const hub = await serveHub(
    t,
    new Map<string, Uint8Array | ((base: string) => unknown)>([
      [
        '/api/datasets/org/set/parquet',
        (base) => ({ small: { train: [base + path], test: [] }, large: { train: [] } }),
      ],
      [path, table],
      ['/api/datasets/org/raw/tree/main', () => [{ path: 'data/a.jsonl' }, { path: 'README.md' }]],
      ['/datasets/org/raw/resolve/main/data/a.jsonl', new TextEncoder().encode(dirtyRows(20))],
    ]),
    seen,
  )
  process.env['HF_ENDPOINT'] = hub
  process.env['HF_TOKEN'] = 'secret'
  process.env['HF_HUB_OFFLINE'] = '0'
  t.teardown(() => {
    delete process.env['HF_ENDPOINT']
    delete process.env['HF_TOKEN']
    process.env['HF_HUB_OFFLINE'] = '1'
  })
  const report = await api.calibrate('org/set:small', { ...small, rows: 8 })
  t.like(report.sources[0], { name: 'org/set/small/train/0.parquet', documents: 8, whole: false })
  t.regex(report.sources[0]?.version ?? '', /"v1"/)
  t.true(seen.every((line) => line.endsWith('Bearer secret')))
  const raw = await api.calibrate('org/raw', small)
  t.like(raw.sources[0], { name: 'org/raw/data/a.jsonl', documents: 43 })
  const error = await failsWith(t, 'not-found', () => api.calibrate('org/set:smal', small))
  t.regex(error.message, /no config "smal".*small or large/)
  await failsWith(t, 'not-found', () => api.calibrate('org/absent', small))
})

test('quantize: takes the ids of a set as they are, and its texts for another tokenizer', async (t) => {
  const { root, data, out } = await folderOf(t, { 'rows.jsonl': dirtyRows(60) })
  await api.calibrate(data, { ...small, out })
  const seen: number[][] = []
  const fake = fakeBinding({ context: 1024 })
  const spied = {
    ...fake,
    jobOpen: (request: string, tokens: Uint32Array) => {
      seen.push([...tokens])
      return fake.jobOpen(request, tokens)
    },
  }
  const quantizer = createApi(spied, nodeHost)
  const run = (name: string, more: object = {}): Promise<{ calibration: unknown }> =>
    quantizer.quantize(NOVELS, { out: join(root, name), calibration: [out], ...more })
  const report = await run('a')
  t.deepEqual(report.calibration, { samples: 8, length: 64, text: 'set.jsonl' })
  const tokens = (await linesOf(out)).flatMap((line) => line.tokens ?? [])
  t.deepEqual(seen.at(-1), tokens)
  await run('b', { samples: 2, length: 16 })
  t.deepEqual(seen.at(-1), [...tokens.slice(0, 16), ...tokens.slice(64, 80)])
  const lines = await readFile(out, 'utf8')
  await writeFile(out, lines.replace('On day', 'On Day'))
  await failsWith(t, 'dataset', () => run('c'))
  const manifest = join(root, 'set.manifest.json')
  await writeFile(
    manifest,
    (await readFile(manifest, 'utf8')).replace(/"tokenizer": ".*"/, '"tokenizer": "0"'),
  )
  t.like(await run('d', { samples: 4 }), { calibration: { samples: 4, length: 64 } })
  t.notDeepEqual(seen.at(-1), tokens.slice(0, 256))
})
