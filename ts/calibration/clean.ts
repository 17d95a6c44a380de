/** Cleaning: one row for each rule that changes a text, and the units in which texts are counted. */
import type { Message } from '../text/chat.ts'
import { withoutMarkup } from './markup.ts'
import type { Rule } from './names.ts'
import type { Document } from './rows.ts'

interface Change {
  readonly rule: Rule
  readonly apply: (text: string) => string
}

/** In this order: markup may hold control characters as entities. */
const CHANGES: readonly Change[] = [
  { rule: 'markup', apply: withoutMarkup },
  { rule: 'control', apply: withoutControls },
  { rule: 'unicode', apply: (text) => text.normalize('NFC') },
  { rule: 'whitespace', apply: withEvenSpace },
]

/** What is invisible, and what half a character leaves behind; joiners of emoji and scripts stay. */
const CONTROLS = new RegExp(
  '[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u00ad\\u200b\\u200e\\u200f' +
    '\\u202a-\\u202e\\u2060-\\u2064\\u2066-\\u206f\\ufeff\\ufff9-\\ufffb\\ufffe\\uffff]|\\p{Cs}',
  'gu',
)

function withoutControls(text: string): string {
  return text.replaceAll(/\r\n?|[\u0085\u2028\u2029]/g, '\n').replaceAll(CONTROLS, '')
}

/** Spaces of every width are one space, but at the start of a line, where code keeps its shape. */
function withEvenSpace(text: string): string {
  return text
    .replaceAll(/[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]/g, ' ')
    .replaceAll(/[ \t]+$/gm, '')
    .replaceAll(/(?<=\S)[ \t]{2,}/g, ' ')
    .replaceAll(/\n{3,}/g, '\n\n')
    .replace(/^\n+/, '')
    .trimEnd()
}

/** A document, cleaned by every rule but those in `without`; `changed` gets each rule that did something. */
export function cleaned(
  document: Document,
  without: ReadonlySet<string>,
  changed: (rule: Rule) => void,
): Document {
  const done = new Set<Rule>()
  const clean = (text: string): string => {
    let result = text
    for (const { rule, apply } of CHANGES) {
      if (without.has(rule)) continue
      const next = apply(result)
      // Space at the ends says nothing about a text.
      if (next.trim() !== result.trim()) done.add(rule)
      result = next
    }
    return result
  }
  const { content } = document
  const next =
    typeof content === 'string'
      ? clean(content)
      : content.map(({ role, content: text }) => ({ role, content: clean(text) }))
  for (const rule of done) changed(rule)
  const { tokens: _, ...rest } = document
  return { ...rest, content: next }
}

/** What is said in a document, without who says it. */
export function plainText(content: string | readonly Message[]): string {
  return typeof content === 'string' ? content : content.map((turn) => turn.content).join('\n')
}

/** Characters of scripts that do not put spaces between words. */
const SPACELESS =
  '\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Thai}\\p{Script=Lao}' +
  '\\p{Script=Khmer}\\p{Script=Myanmar}'
const UNITS = new RegExp(`[${SPACELESS}]|[^\\s\\p{P}\\p{S}${SPACELESS}]+`, 'gu')

/** Words, and single characters of scripts that have no spaces. */
export function unitsOf(text: string): readonly string[] {
  return text.match(UNITS) ?? []
}

/** Letters of a word that make a token, more or less. */
const LETTERS_PER_TOKEN = 5

/** About how many tokens a text has, for any tokenizer. */
export function estimateTokens(text: string): number {
  return unitsOf(text).reduce((sum, unit) => sum + Math.ceil(unit.length / LETTERS_PER_TOKEN), 0)
}
