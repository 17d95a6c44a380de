/**
 * The parts of a tokenizer.json, checked before they are built: each row of the table says what a
 * part must hold, because the code behind it would loop, or quietly give other tokens.
 */
import { checkValues, isObject, type Json } from '../bytes.ts'
import { LowbitError, quote } from '../error.ts'
import { checkPatterns } from './patterns.ts'

/** Members of a tokenizer.json that hold parts. */
const PLACES = ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder'] as const

/** What is wrong with a part of a type; nothing when it is right. */
type Check = (part: Json) => string | undefined

const CHECKS: Readonly<Record<string, Check>> = {
  FixedLength: ({ length }) => (isCount(length, 1) ? undefined : `length is ${said(length)}`),
  Strip: ({ start = 0, stop = 0 }) =>
    [start, stop].every((count) => typeof count === 'boolean' || isCount(count, 0))
      ? undefined
      : `strips ${said(start)} and ${said(stop)} characters`,
  Precompiled: ({ precompiled_charsmap: map }) =>
    typeof map === 'string' && /^[\w+/]*={0,2}$/.test(map) ? undefined : 'its map is no base64',
  Sequence: (part) =>
    ['normalizers', 'pretokenizers', 'decoders', 'processors'].some((key) => isList(part[key]))
      ? undefined
      : 'it lists no parts',
  TemplateProcessing: checkTemplate,
}

/** Checks the parts, the merges and the added tokens; `tokenizer` saying which is wrong. */
export function checkParts(json: Json, place: string): void {
  const parts = Object.fromEntries(PLACES.map((name) => [name, json[name]]))
  checkValues(parts, 'tokenizer', place)
  checkPatterns(parts, place)
  const wrong =
    problemOf(parts) ??
    checkTruncation(json['truncation']) ??
    checkMerges(json['model']) ??
    checkAdded(json['added_tokens'])
  if (wrong !== undefined) throw new LowbitError('tokenizer', wrong, { place })
}

function problemOf(part: unknown): string | undefined {
  if (isList(part)) return firstOf(part, problemOf)
  if (!isObject(part)) return undefined
  const { type } = part
  const check = typeof type === 'string' && Object.hasOwn(CHECKS, type) ? CHECKS[type] : undefined
  const why = check?.(part)
  return why === undefined ? firstOf(Object.values(part), problemOf) : `${said(type)}: ${why}`
}

/** Every special token of a template must be one that it defines. */
function checkTemplate({ single, pair, special_tokens: known = {} }: Json): string | undefined {
  const pieces = [single, pair].flatMap((list) => (isList(list) ? list : []))
  return firstOf(pieces, (piece) => {
    const token = isObject(piece) ? piece['SpecialToken'] : undefined
    const id = isObject(token) ? token['id'] : undefined
    if (id === undefined) return undefined
    if (isObject(known) && typeof id === 'string' && Object.hasOwn(known, id)) return undefined
    return `its token ${said(id)} is not among its special tokens`
  })
}

function checkTruncation(truncation: unknown): string | undefined {
  if (!isObject(truncation)) return undefined
  const { stride = 0, max_length: length } = truncation
  if (isCount(length, 1) && isCount(stride, 0) && stride < length) return undefined
  return `truncation to ${said(length)} tokens with a stride of ${said(stride)}`
}

/** Both halves of a merge and what they make must be tokens, or other tools give other ids. */
function checkMerges(model: unknown): string | undefined {
  if (!isObject(model) || !isList(model['merges'])) return undefined
  const { vocab, continuing_subword_prefix: prefix } = model
  if (!isObject(vocab)) return undefined
  const inner = typeof prefix === 'string' ? prefix.length : 0
  const missing = (token: string): boolean => !Object.hasOwn(vocab, token)
  return firstOf(model['merges'], (merge) => {
    const [left, right, ...more] = typeof merge === 'string' ? merge.split(' ') : listOf(merge)
    if (typeof left !== 'string' || typeof right !== 'string' || more.length > 0) {
      return `The merge ${said(merge)} is no pair of tokens`
    }
    const absent = [left, right, left + right.slice(inner)].find(missing)
    return absent === undefined
      ? undefined
      : `The merge ${said(merge)} needs token ${quote(absent)}`
  })
}

/** No id for two added tokens, and no added token under two ids. */
function checkAdded(added: unknown): string | undefined {
  const ids = new Map<unknown, unknown>()
  const texts = new Map<unknown, unknown>()
  return firstOf(listOf(added), (token) => {
    if (!isObject(token)) return `The added token ${said(token)} is none`
    const { id, content } = token
    const [other = content, second = id] = [ids.get(id), texts.get(content)]
    ids.set(id, content)
    texts.set(content, id)
    if (other !== content)
      return `Added tokens ${said(other)} and ${said(content)} have id ${said(id)}`
    return second === id
      ? undefined
      : `Added token ${said(content)} has ids ${said(second)} and ${said(id)}`
  })
}

function firstOf(
  list: readonly unknown[],
  check: (one: unknown) => string | undefined,
): string | undefined {
  for (const one of list) {
    const found = check(one)
    if (found !== undefined) return found
  }
  return undefined
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value)
}

function listOf(value: unknown): readonly unknown[] {
  return isList(value) ? value : []
}

function isCount(value: unknown, least: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= least
}

function said(value: unknown): string {
  return quote(JSON.stringify(value) ?? 'nothing')
    .slice(1, -1)
    .replaceAll(String.raw`\"`, '"')
}
