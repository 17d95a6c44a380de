/** Sources that the tests of calibration share: dirty text in two languages, a table, a hub. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { tempFolder } from './helpers.ts'

const NOUNS = ['harbour', 'lantern', 'orchard', 'violin', 'glacier', 'compass', 'meadow', 'foundry']
const VERBS = ['crossed', 'painted', 'measured', 'forgot', 'repaired', 'followed', 'counted']
const PLACES = ['北京', '上海', '广州', '成都', '西安', '杭州', '昆明', '青岛']
const THINGS = ['图书馆', '火车站', '博物馆', '茶馆', '菜市场', '公园', '学校', '书店', '医院']

/** A sentence that no other number gives. */
export function english(i: number): string {
  const [a, b] = [NOUNS[i % 8], NOUNS[(i * 3 + 1) % 8]]
  const verb = VERBS[(i * 5) % 7]
  return `On day ${i} the old ${a} keeper ${verb} the ${b} before rain number ${i * i} came.`
}

/** The same in Chinese. */
export function chinese(i: number): string {
  const [a, b] = [PLACES[i % 8], THINGS[(i * 5) % 9]]
  return `第${i}天，他们在${a}的${b}里等了${i * 3 + 1}个小时，然后才慢慢地走回家去。`
}

/** A paragraph of several sentences. */
export function paragraph(sentence: (i: number) => string, i: number): string {
  return Array.from({ length: 8 }, (_, k) => sentence(i * 8 + k)).join(' ')
}

/** Rows in two languages, with everything that cleaning is for. */
export function dirtyRows(count: number): string {
  const rows: object[] = []
  for (let i = 0; i < count; i++) {
    rows.push({ text: `<p>${paragraph(english, i)}</p>\r\n\r\n\r\n<br>&copy;` })
    rows.push({ text: `\uFEFF${paragraph(chinese, i)}\u3000\u3000\u200B完。` })
  }
  rows.push({ text: paragraph(english, 0) }, { text: 'too short' })
  rows.push({
    text: `Un texte en français, que personne n'a demandé, et qui est assez long ${count}`,
  })
  return rows.map((row) => `${JSON.stringify(row)}\n`).join('')
}

/** A Parquet file of one column of text. */
export function parquet(texts: readonly string[], name = 'text'): Uint8Array {
  const columnData = [
    { name: 'id', data: texts.map((_, i) => i), type: 'INT32' as const },
    { name, data: [...texts], type: 'STRING' as const },
  ]
  return new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: [4] }))
}

/** A server of bytes and JSON that answers ranges; gives its address without a slash. */
export async function serveHub(
  t: ExecutionContext,
  files: ReadonlyMap<string, Uint8Array | ((base: string) => unknown)>,
  seen: string[] = [],
): Promise<string> {
  let base = ''
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization ?? ''}`)
    const file = files.get(new URL(request.url ?? '/', 'http://a').pathname)
    if (!file) {
      response.writeHead(404).end()
      return
    }
    const body =
      typeof file === 'function' ? new TextEncoder().encode(JSON.stringify(file(base))) : file
    const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []
    const part = first === undefined ? body : body.subarray(Number(first), Number(last) + 1)
    response.writeHead(first === undefined ? 200 : 206, {
      'content-length': part.length,
      etag: '"v1"',
    })
    response.end(request.method === 'HEAD' ? undefined : part)
  })
  await new Promise<void>((ready) => {
    server.listen(0, '127.0.0.1', ready)
  })
  t.teardown(() => server.close())
  const address = server.address()
  base = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
  return base
}

/** One line of a set. */
export interface Line {
  readonly text?: string
  readonly messages?: readonly { readonly role: string; readonly content: string }[]
  readonly language: string
  readonly tokens?: readonly number[]
}

/** Writes files into a folder of their own. */
export async function folderOf(
  t: ExecutionContext,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<{ root: string; data: string; out: string }> {
  const root = await tempFolder(t)
  const data = join(root, 'data')
  await mkdir(data)
  for (const [name, body] of Object.entries(files)) await writeFile(join(data, name), body)
  return { root, data, out: join(root, 'set.jsonl') }
}

/** Lines of a set, parsed. */
export async function linesOf(place: string): Promise<readonly Line[]> {
  const text = await readFile(place, 'utf8')
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
}
