/** Rows of a data set to documents: what field of a row is text, in each shape that is in use. */
import { isObject, type Json } from '../bytes.ts'
import { LowbitError, quote } from '../error.ts'
import type { Message } from '../text/chat.ts'

/** One text or conversation of a source. */
export interface Document {
  readonly content: string | readonly Message[]
  /** The file it came from, as `DataFile.name`. */
  readonly source: string
  /** File and line or row, for messages. */
  readonly place: string
  /** Whether it goes on, in the same file, with what the document before it ended. */
  readonly continues: boolean
  /** Ids that a set holds beside the text. */
  readonly tokens?: Uint32Array
}

/** What a row gives. */
export type Row = Pick<Document, 'content' | 'tokens'>

interface Shape {
  /** The field that tells the shape. */
  readonly field: string
  readonly read: (row: Json) => Row
}

/** In the order in which they are looked for: the richer shape first. */
const SHAPES: readonly Shape[] = [
  { field: 'messages', read: (row) => ({ content: messagesOf(row['messages'], 'messages') }) },
  {
    field: 'conversations',
    read: (row) => ({ content: messagesOf(row['conversations'], 'conversations') }),
  },
  { field: 'instruction', read: (row) => ({ content: instructionOf(row) }) },
  { field: 'text', read: (row) => ({ content: textIn(row, 'text'), ...tokensIn(row) }) },
]

/** Who speaks, in ShareGPT's words. */
const SPEAKERS: Readonly<Record<string, string>> = {
  human: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  bot: 'assistant',
}

/** The document in a row; a plain `Error` says what is wrong with it. */
export function rowOf(value: unknown, field: string | undefined): Row {
  if (typeof value === 'string') return { content: value }
  if (!isObject(value)) throw new Error(`the row is ${kindOf(value)} and no object`)
  if (field !== undefined) {
    if (!Object.hasOwn(value, field)) throw missing(value, field)
    const content = value[field]
    return { content: Array.isArray(content) ? messagesOf(content, field) : textIn(value, field) }
  }
  const shape = SHAPES.find((one) => Object.hasOwn(value, one.field))
  if (!shape) throw missing(value, 'text')
  return shape.read(value)
}

/** Columns that a table is read for. */
export function columnsFor(names: readonly string[], field: string | undefined): readonly string[] {
  if (field !== undefined) return names.filter((name) => name === field)
  const shape = SHAPES.find((one) => names.includes(one.field))
  const beside = shape?.field === 'instruction' ? ['input', 'output', 'system'] : []
  return shape ? [shape.field, ...beside.filter((name) => names.includes(name))] : []
}

/** A row without the field that is text. */
export function missing(row: Json, field: string): Error {
  const fields = Object.keys(row).slice(0, 8).map(quote).join(', ')
  return new Error(`the row has no field ${quote(field)}, only ${fields || 'none at all'}`)
}

/** A row that cannot be read, as the error it deserves. */
export function rowError(cause: unknown, place: string): LowbitError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new LowbitError('dataset', `Not a row: ${why.slice(0, 300)}`, {
    place,
    remedy:
      'repair it, name its field with --field, or leave it out with lowbit calibrate --skip-bad',
    cause,
  })
}

function textIn(row: Json, field: string): string {
  const value = row[field] ?? ''
  if (typeof value === 'string') return value
  throw new Error(`${quote(field)} is ${kindOf(value)} and no text`)
}

/** Ids count only if they are ids; whether they are this model's, the manifest says. */
function tokensIn(row: Json): { tokens?: Uint32Array } {
  const list: unknown = row['tokens']
  const right =
    Array.isArray(list) && list.every((id: unknown) => Number.isInteger(id) && Number(id) >= 0)
  return right ? { tokens: Uint32Array.from(list, Number) } : {}
}

/** Alpaca's rows: what is asked, what it is about, what is answered. */
function instructionOf(row: Json): readonly Message[] {
  const system = textIn(row, 'system')
  const asked = [textIn(row, 'instruction'), textIn(row, 'input')].filter((part) => part !== '')
  return [
    ...(system === '' ? [] : [{ role: 'system', content: system }]),
    { role: 'user', content: asked.join('\n\n') },
    { role: 'assistant', content: textIn(row, 'output') },
  ]
}

function messagesOf(value: unknown, field: string): readonly Message[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new Error(`${quote(field)} is ${kindOf(value)} and no list of messages`)
  }
  return value.map((message: unknown, i) => {
    if (!isObject(message)) throw new Error(`message ${i} is ${kindOf(message)} and no object`)
    const role = message['role'] ?? message['from']
    if (typeof role !== 'string') throw new Error(`message ${i} has no role`)
    return { role: SPEAKERS[role] ?? role, content: contentOf(message, i) }
  })
}

/** A text, or the texts among parts of several kinds. */
function contentOf(message: Json, i: number): string {
  const content = message['content'] ?? message['value']
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) throw new Error(`message ${i} has no text`)
  const parts: readonly unknown[] = content
  return parts
    .map((part) => (isObject(part) && typeof part['text'] === 'string' ? part['text'] : ''))
    .join('')
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`
}
