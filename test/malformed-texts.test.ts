/** Malformed texts beside the tensors: tokenizers, chat templates, configs, quantized tensors. */
import test from 'ava'
import { join } from 'node:path'
import { createApi } from '../ts/api.ts'
import { nodeHost } from '../ts/host.node.ts'
import { fsStore } from '../ts/store/fs.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { chatTemplate } from '../ts/text/chat.ts'
import { checkPatterns, repeatsRepeats } from '../ts/text/patterns.ts'
import { needTokenizer, openTokenizer, type Tokenizer } from '../ts/text/tokenizer.ts'
import { NAME, openBinding } from './binding.ts'
import { failsWith, NOVELS, ROOT } from './helpers.ts'

const api = createApi(await openBinding(), nodeHost)
const QWEN = join(ROOT, 'models/tiny-qwen3')

const bytes = (value: string): Uint8Array => new TextEncoder().encode(value)

/** A tokenizer of three tokens, with some members in other words. */
async function tokenizer(members: object): Promise<Tokenizer> {
  const none = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null }
  const json = { ...none, added_tokens: [], model: model({}), ...members }
  const store = memoryStore([['tokenizer.json', bytes(JSON.stringify(json))]])
  return needTokenizer(await openTokenizer(store, nodeHost.within), 'memory')
}

function model(members: object): object {
  return { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: [['a', 'b']], ...members }
}

const special = (id: string): object => ({ SpecialToken: { id, type_id: 0 } })

/** Case 18: what it is, the members, and words of the message. */
const TOKENIZERS: readonly (readonly [string, object, RegExp])[] = [
  ['stride of a truncation', { truncation: { max_length: 4, stride: 4 } }, /stride of 4/],
  [
    'template with a token that it does not define',
    {
      post_processor: { type: 'TemplateProcessing', single: [special('<s>')], special_tokens: {} },
    },
    /token "<s>" is not among/,
  ],
  [
    'merge overrun',
    { model: model({ vocab: { a: 0, b: 1 } }) },
    /merge \["a","b"\] needs token "ab"/,
  ],
  ['merge of a stranger', { model: model({ merges: [['a', 'c']] }) }, /needs token "c"/],
  ['merge of one', { model: model({ merges: ['ab'] }) }, /no pair of tokens/],
  ['merges that are no list', { model: model({ merges: 5 }) }, /failed/],
  [
    'strip of fewer than none',
    { decoder: { type: 'Strip', content: 'a', start: -1, stop: 0 } },
    /-1/,
  ],
  ['pieces of no length', { pre_tokenizer: { type: 'FixedLength', length: 0 } }, /length is 0/],
  [
    'pieces of no length, inside',
    { pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'FixedLength', length: 0 }] } },
    /length is 0/,
  ],
  [
    'character map that is none',
    { normalizer: { type: 'Precompiled', precompiled_charsmap: '!' } },
    /no base64/,
  ],
  ['id of 2^31', { model: model({ vocab: { a: 2 ** 31, b: 1, ab: 2 } }) }, /id 2147483648/],
  ['id as text', { model: model({ vocab: { a: '0' } }) }, /id "0"/],
  [
    'one id for two tokens',
    { added_tokens: [added(7, 'x'), added(7, 'y')] },
    /"x" and "y" have id 7/,
  ],
  [
    'two ids for one token',
    { added_tokens: [added(7, 'x'), added(8, 'x')] },
    /"x" has ids 7 and 8/,
  ],
  ['sequence of nothing', { decoder: { type: 'Sequence' } }, /lists no parts/],
  ['unknown part', { pre_tokenizer: { type: 'Nonsense' } }, /Nonsense/],
  ['expression that is none', { pre_tokenizer: split('(') }, /regular expression/],
  ['parts nested 5,000 deep', { normalizer: nested(5000) }, /Nested too deep/],
]

function added(id: number, content: string): object {
  return { id, content, special: true }
}

function split(expression: string): object {
  return { type: 'Split', pattern: { Regex: expression }, behavior: 'Isolated', invert: false }
}

function nested(depth: number): object {
  const [open, close] = ['{"type":"Sequence","normalizers":[', ']}']
  return JSON.parse(`${open.repeat(depth)}{"type":"NFC"}${close.repeat(depth)}`)
}

for (const [name, members, pattern] of TOKENIZERS) {
  test(`tokenizer: ${name}`, async (t) => {
    const error = await failsWith(t, 'tokenizer', () => tokenizer(members))
    t.regex(error.message, pattern)
  })
}

test('tokenizer: names of the language are tokens like others', async (t) => {
  const vocab: object = JSON.parse('{"__proto__":0,"constructor":1,"a":2}')
  const opened = await tokenizer({ model: model({ vocab, merges: [] }) })
  t.deepEqual([...opened.encode('a', false)], [2])
  t.is(opened.size, 3)
})

test('tokenizer: an expression that repeats a repetition never runs', async (t) => {
  for (const bad of ['(a+)+$', '(?:a*)*', '(a{2,})*b', '((a+)b?)+', '(a|b+){3,}', '(?=(x+)+y)']) {
    t.true(repeatsRepeats(bad), bad)
    await failsWith(t, 'tokenizer', () => tokenizer({ pre_tokenizer: split(bad) }))
  }
  // Those of GPT-2, Llama 3, o200k and DeepSeek.
  const good = [
    String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`,
    '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*',
    String.raw`(?:ab)+|\(+\)+|[(+)*]+|a{1,3}(b{2})*`,
  ]
  for (const expression of good) {
    t.notThrows(() => checkPatterns([{ Regex: expression }], 'here'), expression)
  }
})

test('tokenizer: an expression that takes for ever in other ways is stopped', async (t) => {
  for (const slow of ['(a|a)+$', 'a*a*a*a*c']) {
    const opened = await tokenizer({ pre_tokenizer: split(slow) })
    const begun = performance.now()
    await failsWith(t, 'tokenizer', () => opened.encode(`${'a'.repeat(3000)}b`, false))
    t.true(performance.now() - begun < 5000)
    t.is(opened.encode('ab', false).length, 1)
  }
})

test('tokenizer: one character, over and over, takes time in proportion', async (t) => {
  const opened = needTokenizer(await openTokenizer(fsStore(NOVELS), nodeHost.within), NOVELS)
  const seconds = (count: number): number => {
    const begun = performance.now()
    t.is(opened.encode('a'.repeat(count), false).length, count)
    return performance.now() - begun
  }
  seconds(50_000)
  // Twice the text would take four times as long if it were compared with itself.
  t.true(seconds(1_000_000) < 12 * Math.max(seconds(250_000), 50))
})

/** Case 21: templates that must end, and not well. */
const TEMPLATES: Readonly<Record<string, string>> = {
  'loops in loops':
    '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}',
  'loops over a list of its own':
    '{% set r = range(99999) | list %}{% for i in r %}{% for j in r if j < 0 %}{% endfor %}{% endfor %}',
  'a range of 10^9': '{{ range(1000000000) }}',
  '1 GB': `{% for i in range(99999) %}${'x'.repeat(10_000)}{% endfor %}`,
  'a text that doubles':
    '{% set n = namespace(s="x") %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}',
  'a list that doubles':
    '{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}',
  'a text that squares':
    '{% set n = namespace(s="aaaaaaaaaaaaaaaa") %}{% for i in range(9) %}{% set n.s = n.s.replace("a", n.s) %}{% endfor %}',
  'a macro that calls itself':
    '{% set n = namespace() %}{% macro f(x) %}{{ n.f(x) }}{% endmacro %}{% set n.f = f %}{{ f(1) }}',
  'parentheses 100,000 deep': `{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`,
  'a walk to the constructor': '{{ messages.__proto__.constructor("return 1")() }}',
  'a walk over a text': '{{ "".constructor.constructor("return process")() }}',
  'a filter that is none': '{{ messages | nonsense }}',
  'its own exception': '{{ raise_exception("no") }}',
}

for (const [name, source] of Object.entries(TEMPLATES)) {
  test.serial(`template: ${name}`, async (t) => {
    const template = chatTemplate(source, {}, 'here')
    const begun = performance.now()
    await failsWith(t, 'template', () => template.render([{ role: 'user', content: 'x' }]))
    // 250 ms on an idle machine; others may be busy.
    t.true(performance.now() - begun < 2500)
  })
}

test('template: a long conversation is none of these', (t) => {
  const source =
    '{% for m in messages %}{% if not loop.last or m.role in ["user"] %}{{ m.role | upper }}: ' +
    '{{ m.content | trim }} of {{ messages | length }}\n{% endif %}{% endfor %}{{ strftime_now("%Y") }}'
  const turns = Array.from({ length: 3000 }, (_, i) => ({
    role: i % 2 === 0 ? 'user' : 'assistant',
    content: 'so it goes '.repeat(40),
  }))
  const text = chatTemplate(source, {}, 'here').render(turns)
  t.is(text.match(/ of 3000\n/g)?.length, 2999)
  t.regex(text, /\d{4}$/)
})

/** Case 22: an expression in config.json, what stands there instead, and the message. */
const CONFIGS: readonly (readonly [RegExp, string, RegExp])[] = [
  [
    /"num_hidden_layers": \d+/,
    '"num_hidden_layers": 1000000000',
    /num_hidden_layers is 1000000000.*from 1 to/,
  ],
  [/"num_hidden_layers": \d+/, '"num_hidden_layers": -1', /from 1 to/],
  [/"num_hidden_layers": \d+/, '"num_hidden_layers": 2.5', /an integer/],
  [/"num_key_value_heads": \d+/, '"num_key_value_heads": 3', /a divisor of num_attention_heads, 4/],
  [/"vocab_size": \d+/, '"vocab_size": 7', /vocab_size is 7.*the rows of tensor/],
  [/"vocab_size": \d+/, '"vocab_size": 9007199254740993', /9007199254740993/],
  [/"rms_norm_eps": [^,]+/, '"rms_norm_eps": 1e400', /rms_norm_eps is beyond every float/],
  [/"rms_norm_eps": [^,]+/, '"rms_norm_eps": NaN', /Not JSON/],
  [/"rms_norm_eps": [^,]+/, '"rms_norm_eps": Infinity', /Not JSON/],
  [/"rms_norm_eps": [^,]+/, '"rms_norm_eps": -1', /a number from 0/],
  [/"rope_theta": [^,]+/, '"rope_theta": -1e300', /rope_theta/],
  [/"hidden_size": \d+/, '"hidden_size": "64"', /hidden_size is "64".*an integer/],
  [/"hidden_size": \d+,/, '', /hidden_size is missing/],
  [/"use_cache": true/, `"use_cache": ${'['.repeat(200)}${']'.repeat(200)}`, /Nested too deep/],
  [/[^]*/, '[]', /Not a JSON object/],
  [/[^]*/, '{"a":'.repeat(200_000), /Not JSON/],
]

test(`${NAME}: every malformed config says key, value and what is allowed`, async (t) => {
  const source = fsStore(QWEN)
  const names = await source.list()
  const files = await Promise.all(
    names.map(async (name) => [name, await source.read(name)] as const),
  )
  const config = new TextDecoder().decode(await source.read('config.json'))
  for (const [pattern, text, message] of CONFIGS) {
    const changed = config.replace(pattern, text)
    t.not(changed, config)
    const store = memoryStore([...files, ['config.json', bytes(changed)]])
    const error = await failsWith(t, 'config', () => api.load(store, { device: 'cpu' }))
    t.regex(error.message, message)
  }
})
