/** Every rule of cleaning, and every way in which a file of rows can be broken. */
import test from 'ava'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import { createApi } from '../ts/api.ts'
import { cleaned, plainText } from '../ts/calibration/clean.ts'
import { RULES } from '../ts/calibration/names.ts'
import { openLanguages } from '../ts/calibration/language.ts'
import { Seen } from '../ts/calibration/near.ts'
import { Pool } from '../ts/calibration/pool.ts'
import { nodeHost } from '../ts/host.node.ts'
import type { CalibrateOptions } from '../ts/options.ts'
import type { CalibrateReport } from '../ts/calibration/report.ts'
import { chinese, english, paragraph } from './calibration-sources.ts'
import { fakeBinding } from './fake-binding.ts'
import { failsWith } from './helpers.ts'

const api = createApi(fakeBinding(), nodeHost)
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const row = (i: number): string => `${JSON.stringify({ text: paragraph(english, i) })}\n`
const options = { samples: 2, length: 32 } as const

function calibrate(
  body: Uint8Array | string,
  more: CalibrateOptions = {},
  name = 'a.jsonl',
): Promise<CalibrateReport> {
  const source = { name, bytes: typeof body === 'string' ? bytes(body) : body }
  return api.calibrate(source, { ...options, ...more })
}

function clean(content: string, without: readonly string[] = []): string {
  const document = { content, source: 'a', place: 'a', continues: false }
  const result = cleaned(document, new Set(without), () => undefined).content
  return typeof result === 'string' ? result : ''
}

const CLEANED: readonly (readonly [rule: string, before: string, after: string])[] = [
  ['markup', '<div class="x">A<br>B <b>c</b></div>', 'A\nB c'],
  ['markup', 'a<!-- no --> b<script>var x = "</p>"</script><style>p{}</style>', 'a b'],
  ['markup', 'Fish &amp; chips &#20013;&#x6587; &nosuch; AT&T', 'Fish & chips 中文 &nosuch; AT&T'],
  ['markup', 'if (a<b && c>d) return List<String>()', 'if (a<b && c>d) return List<String>()'],
  ['markup', '<p>x <y and z> w</p>', 'x <y and z> w'],
  ['control', 'a\u0000b\u200Bc\uFEFFd\u202Ee\u00ADf\r\ng\rh\u2028i', 'abcdef\ng\nh\ni'],
  ['control', 'half \uD83D a character', 'half  a character'],
  ['control', '👩\u200D🚀', '👩\u200D🚀'],
  ['unicode', 'cafe\u0301 ，全角１２', 'café ，全角１２'],
  ['whitespace', 'a  \t b \u00A0\u3000c   \n\n\n\n  code  x\n', 'a b c\n\n  code x'],
]

for (const [rule, before, after] of CLEANED) {
  test(`cleaning: ${rule} of ${JSON.stringify(before)}`, (t) => {
    const others = RULES.filter((other) => other !== rule)
    const result = clean(before, others)
    t.is(rule === 'markup' ? result.trim() : result, after)
    if (before !== after) t.not(clean(before, RULES), after)
  })
}

test('cleaning: cleaning twice changes nothing more', (t) => {
  // Markup that was text in markup is markup the second time.
  const unit = fc.constantFrom('a', ' ', '\n', '\r', '\u00A0', '\t', '\u200B', 'e\u0301', '中')
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 60 }), (text) => {
      const once = clean(text)
      t.is(clean(once), once)
    }),
    { numRuns: 300 },
  )
})

test('cleaning: each rule that leaves texts out can be left out itself', async (t) => {
  const french = 'Le chat noir dort tranquillement sur le tapis près de la fenêtre ouverte.'
  const texts = [paragraph(english, 1), paragraph(english, 1), 'short', french]
  const body = texts.map((text) => JSON.stringify({ text })).join('\n')
  const all = { samples: 64, languages: ['en'] } as const
  t.deepEqual((await calibrate(body, all)).dropped, { duplicate: 1, language: 1, short: 1 })
  for (const rule of ['duplicate', 'language', 'short'] as const) {
    const { dropped } = await calibrate(body, { ...all, minLength: 2, without: [rule] })
    t.false(rule in dropped, rule)
  }
})

test('languages: English, Chinese and others are told apart, code counts as what it is', async (t) => {
  const { identify } = await openLanguages()
  t.is(identify(paragraph(english, 3)), 'en')
  t.is(identify(paragraph(chinese, 3)), 'zh')
  t.is(identify('これは日本語で書かれた文章です。'), 'ja')
  t.is(identify('Привет, как дела сегодня?'), 'ru')
  t.is(identify('12345 67890'), 'und')
})

test('near-duplicates: small changes are seen, other texts are not', (t) => {
  for (const sentence of [english, chinese]) {
    const seen = new Seen()
    const text = Array.from({ length: 40 }, (_, i) => sentence(i)).join(' ')
    t.false(seen.has(text))
    t.true(seen.has(text.toUpperCase()))
    t.true(seen.has(`${sentence(99)} ${text}`))
    for (let i = 1; i < 50; i++) {
      const other = Array.from({ length: 40 }, (_, k) => sentence(i * 40 + k)).join(' ')
      t.false(seen.has(other), `${i}`)
    }
  }
})

test('pool: every document has the same chance, and memory is bounded', (t) => {
  const pool = new Pool(100, 7)
  for (let i = 0; i < 5000; i++) {
    pool.add({ content: `word ${i}`, source: 'a', place: 'a', continues: false }, 'en')
  }
  const kept = pool.candidates().map(({ document }) => Number(plainText(document.content).slice(5)))
  t.is(kept.length, 50)
  t.true(kept.some((i) => i > 4000) && kept.some((i) => i < 1000))
  const mean = kept.reduce((sum, i) => sum + i, 0) / kept.length
  t.true(mean > 1800 && mean < 3200, `${mean}`)
})

const bad = Uint8Array.from([0x7b, 0xff, 0xfe, 0x0a])
const BROKEN: readonly (readonly [string, Uint8Array | string, RegExp])[] = [
  ['invalid UTF-8', Buffer.concat([bytes(row(1)), bad, bytes(row(2))]), /not UTF-8, in .* line 2/],
  ['a cut last line', `${row(1)}${row(2)}{"text": "half`, /the last line is cut off.* line 3/],
  ['a line that is no JSON', `${row(1)}oops\n${row(2)}`, /Not a row: .* line 2/],
  ['a wrong field', `${row(1)}{"body":"x"}\n${row(2)}`, /no field "text", only "body".* line 2/],
  ['a field of the wrong kind', `${row(1)}${row(2)}{"text":7}\n`, /"text" is a number.* line 3/],
  ['a row that is no object', `${row(1)}${row(2)}[1]\n`, /the row is a list.* line 3/],
  ['messages without text', `${row(1)}${row(2)}{"messages":[{"role":"user"}]}`, /no text.* line 3/],
  ['no messages', `${row(1)}${row(2)}{"messages":[]}\n`, /no list of messages/],
  ['a field of the prototype', `{"text":"a"}\n`.repeat(2), /no field "constructor"/],
]

for (const [name, body, pattern] of BROKEN) {
  test(`rows: ${name} is dataset with the line, or a counted skip`, async (t) => {
    const field = name.includes('prototype') ? { field: 'constructor' } : {}
    const error = await failsWith(t, 'dataset', () => calibrate(body, field))
    t.regex(error.message, pattern)
    if ('field' in field) return
    const report = await calibrate(body, { skipBad: true })
    t.is(report.sources[0]?.skipped, 1)
    t.is(report.documents.kept, 2)
  })
}

test('rows: a byte order mark, CRLF and empty lines do no harm', async (t) => {
  const report = await calibrate(`\uFEFF${row(1)}\r\n\n${row(2)}`.replaceAll('}\n', '}\r\n'))
  t.is(report.documents.kept, 2)
  await failsWith(t, 'dataset', () => calibrate(Buffer.from(`\uFEFF${row(1)}`, 'utf16le')))
})

test('rows: no usable row is dataset, with what was left out', async (t) => {
  for (const body of ['', '\n\n', '{"text":"too short"}\n']) {
    const error = await failsWith(t, 'dataset', () => calibrate(body))
    t.regex(error.message, /documents.* give 0 tokens, less than a sample of 32/)
  }
  const error = await failsWith(t, 'dataset', () => calibrate('{"text":"too short"}\n'))
  t.regex(error.message, /1 documents \(left out: 1 short\)/)
})

/** A file as long as one likes that is never in memory. */
function endless(mebibytes: number, end: string): AsyncIterable<Uint8Array> {
  const piece = bytes('x'.repeat(1 << 20))
  return (async function* pieces() {
    yield bytes(`${row(1)}{"text":"`)
    for (let i = 0; i < mebibytes; i++) yield piece
    yield bytes(end)
  })()
}

test('rows: a line of a gigabyte is refused without being held', async (t) => {
  const host = (pieces: () => AsyncIterable<Uint8Array>): ReturnType<typeof createApi> =>
    createApi(fakeBinding(), {
      ...nodeHost,
      data: async () => [{ name: 'a.jsonl', place: 'a.jsonl', pieces }],
    })
  const before = process.memoryUsage.rss()
  const error = await failsWith(t, 'dataset', () => host(() => endless(1024, '')).calibrate('a'))
  t.regex(error.message, /longer than 16777216 bytes, in a\.jsonl line 2/)
  const skipped = await host(() => endless(1024, `"}\n${row(2)}`)).calibrate('a', {
    ...options,
    skipBad: true,
  })
  t.is(skipped.documents.kept, 2)
  const grown = process.memoryUsage.rss() - before
  t.true(grown < 256 << 20, `${grown} bytes more`)
})

test('text: bad bytes, one long line and a packed file', async (t) => {
  const book = Array.from({ length: 40 }, (_, i) => paragraph(english, i)).join('\n\n')
  const broken = Buffer.concat([bytes(`${book}\n`), Uint8Array.of(0xe4, 0xb8, 0x0a), bytes(book)])
  const error = await failsWith(t, 'dataset', () => calibrate(broken, {}, 'a.txt'))
  t.regex(error.message, /not UTF-8, in a\.txt line 80/)
  t.is((await calibrate(broken, { skipBad: true }, 'a.txt')).sources[0]?.skipped, 1)
  const chars = '中文没有空格的很长的一行'.repeat(200_000)
  const long = await calibrate(chars, { without: ['duplicate'] }, 'a.txt')
  t.true(long.documents.read > 100)
  await failsWith(t, 'dataset', () => calibrate(`a\0b${book}`, {}, 'a.txt'))
  const packed = gzipSync(bytes(book))
  t.true((await calibrate(packed, {}, 'a.txt.gz')).documents.kept > 0)
  await failsWith(t, 'dataset', () => calibrate(packed.subarray(0, 99), {}, 'a.txt.gz'))
  for (const name of ['a.csv', 'a.bin', 'a.jsonl.zst']) {
    await failsWith(t, 'unsupported', () => calibrate(book, {}, name))
  }
})

test('text: characters are whole wherever the pieces of a file end', async (t) => {
  const text = Array.from({ length: 90 }, (_, i) => `${chinese(i)}🦊 é`).join('\n')
  const whole = await calibrate(text, { samples: 9 }, 'a.txt')
  for (const size of [1, 2, 3, 5, 7]) {
    const data = bytes(text)
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size)
    }
    const host = { ...nodeHost, data: async () => [{ name: 'a.txt', place: 'a', pieces }] }
    const report = await createApi(fakeBinding(), host).calibrate('a', { ...options, samples: 9 })
    t.deepEqual(report.lengths, whole.lengths)
    t.is(report.sources[0]?.sha256, whole.sources[0]?.sha256)
  }
})

test('calibrate: stops on request', async (t) => {
  const abort = new AbortController()
  abort.abort()
  await failsWith(t, 'aborted', () => calibrate(row(1), { signal: abort.signal }))
})
