import test from 'ava'
import * as fc from 'fast-check'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fsStore } from '../ts/store/fs.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { chatTemplate, openTemplate } from '../ts/text/chat.ts'
import { stopFilter, tokenStream } from '../ts/text/stream.ts'
import { needTokenizer, openTokenizer } from '../ts/text/tokenizer.ts'
import { failsWith, NOVELS, ROOT } from './helpers.ts'

const novels = needTokenizer(await openTokenizer(fsStore(NOVELS)), NOVELS)

/** SHA-256 over little-endian u32 ids that tokenizers 0.23.3 (Rust) gives for the same texts. */
const REFERENCE = {
  'eval.txt': [67_226, 'e85aff9eeee50b714ca24101def5d086a6a81bf675a906ca42343c569c9b04ef'],
  'calibration.txt': [119_246, 'bfb109405ff99f9ababc8fef4c05ee93d67d698de7a54bca73799dfe5c516d2e'],
} as const

for (const [name, [count, sha256]] of Object.entries(REFERENCE)) {
  test(`encode: ${name} has the ids of the reference`, async (t) => {
    const ids = novels.encode(await readFile(join(ROOT, 'data', name), 'utf8'), false)
    t.is(ids.length, count)
    t.is(createHash('sha256').update(ids).digest('hex'), sha256)
  })
}

test('decode: gives the text back, without special tokens', (t) => {
  const text = 'It was – so he said – “quite” 100 % naïve. 日本 🦊'
  t.is(novels.decode(novels.encode(text, false)), text)
  t.is(novels.decode([1, ...novels.encode('a', false), 2]), 'a')
  t.is(novels.decode([]), '')
})

test('openTokenizer: nothing without a file, tokenizer for a bad one', async (t) => {
  t.is(await openTokenizer(memoryStore()), undefined)
  const bad: readonly [string, RegExp][] = [
    ['{', /Not JSON/],
    ['[]', /Not a JSON object/],
    ['{}', /no model/],
    ['{"model":{"type":"BPE","vocab":{"a":2147483648},"merges":[]}}', /"a" has id 2147483648/],
    ['{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}', /id -1/],
    ['{"model":{"type":"Nonsense","vocab":{}}}', /failed/],
    ['{"added_tokens":[{"content":"x"}],"model":{"vocab":{}}}', /"x" has id undefined/],
  ]
  for (const [json, pattern] of bad) {
    const store = memoryStore([['tokenizer.json', new TextEncoder().encode(json)]])
    const error = await failsWith(t, 'tokenizer', () => openTokenizer(store))
    t.regex(error.message, pattern)
  }
})

test('tokenStream: all pieces are the whole text and no piece splits a character', (t) => {
  const text = fc.string({ unit: 'grapheme', maxLength: 40 })
  fc.assert(
    fc.property(text, text, (before, after) => {
      const prompt = novels.encode(before, false)
      const ids = novels.encode(after, false)
      const pieces = piecesOf(prompt, ids)
      t.is(pieces.join(''), after)
      t.true(pieces.slice(0, -1).every((piece) => !piece.includes('\uFFFD')))
    }),
    { numRuns: 200 },
  )
})

test('tokenStream: of any tokens, all pieces are what they decode to together', (t) => {
  const ids = fc.array(fc.integer({ min: 3, max: 300 }), { maxLength: 40 })
  fc.assert(
    fc.property(ids, (tokens) => {
      t.is(piecesOf(new Uint32Array(0), tokens).join(''), novels.decode(tokens))
    }),
    { numRuns: 300 },
  )
})

test('tokenStream: a character in many tokens comes with its last', (t) => {
  const ids = novels.encode('🦊', false)
  t.true(ids.length > 1)
  const pieces = piecesOf(new Uint32Array(0), ids)
  t.deepEqual(
    pieces.filter((piece) => piece !== ''),
    ['🦊'],
  )
})

test('tokenStream: an unfinished character is given out at the end', (t) => {
  const ids = novels.encode('a🦊', false).slice(0, -1)
  t.is(piecesOf(new Uint32Array(0), ids).join(''), novels.decode(ids))
})

test('stopFilter: cuts at the first stop string, across pieces', (t) => {
  const cases: readonly [readonly string[], readonly string[], string, boolean][] = [
    [['END'], ['a EN', 'D b'], 'a ', true],
    [['END'], ['a EN', 'd b'], 'a ENd b', false],
    [['END'], ['E', 'E', 'N', 'D'], 'E', true],
    [['aab'], ['aaa', 'b'], 'a', true],
    [['x', '\n\n'], ['one\n', '\ntwo x'], 'one', true],
    [[], ['a', 'b'], 'ab', false],
    [['ab'], ['a'], 'a', false],
  ]
  for (const [stops, pieces, text, stopped] of cases) {
    const filter = stopFilter(stops)
    let got = ''
    let ended = false
    for (const piece of pieces) {
      const step = filter.push(piece)
      got += step.text
      ended ||= step.stopped
    }
    t.deepEqual([got + filter.end(), ended], [text, stopped])
  }
})

test('stopFilter: the text is the same however it is cut into pieces', (t) => {
  const piece = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 4 })
  fc.assert(
    fc.property(
      fc.array(piece),
      fc.array(
        piece.filter((s) => s !== ''),
        { maxLength: 3 },
      ),
      (pieces, stops) => {
        const whole = pieces.join('')
        const cuts = stops.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0)
        const filter = stopFilter(stops)
        const got = pieces.map((part) => filter.push(part).text).join('') + filter.end()
        // A longer stop string that begins earlier may lose to one that ends earlier.
        if (cuts.length === 0) t.is(got, whole)
        else t.true(whole.startsWith(got) && got.length >= Math.min(...cuts))
      },
    ),
  )
})

test('openTemplate: renders the ChatML of the model', async (t) => {
  const template = await openTemplate(fsStore(NOVELS), novels)
  const text = template?.render([
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Hello' },
  ])
  t.is(
    text,
    '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n',
  )
})

test('openTemplate: takes the default of a list in tokenizer_config.json', async (t) => {
  const config = {
    chat_template: [
      { name: 'tool', template: 'x' },
      { name: 'default', template: '{{ bos_token }}!' },
    ],
  }
  const template = await openTemplate(memoryStore(), {
    ...novels,
    config,
    roles: { bos_token: '<s>' },
  })
  t.is(template?.render([{ role: 'user', content: '' }]), '<s>!')
})

test('chatTemplate: failures have the code template', async (t) => {
  const messages = [{ role: 'user', content: 'x' }]
  const bad = [
    '{% for %}',
    '{{ "".constructor.constructor("return 1")() }}',
    '{{ raise_exception("no") }}',
    '{{ x | nonsense }}',
    '{{ constructor() }}',
  ]
  for (const source of bad) {
    await failsWith(t, 'template', () => chatTemplate(source, {}, 'a').render(messages))
  }
  await failsWith(t, 'option', () => chatTemplate('', {}, 'a').render([]))
})

function piecesOf(prompt: Uint32Array, ids: Iterable<number>): string[] {
  const stream = tokenStream(novels, prompt)
  const pieces = Array.from(ids, (id) => stream.push(id))
  return [...pieces, stream.end()]
}
