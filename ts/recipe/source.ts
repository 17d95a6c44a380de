/** The text of a recipe: YAML or JSON to plain values, and where in the text each of them is. */
import { isMap, isNode, LineCounter, parseDocument, type Document, type Node } from 'yaml'
import { LowbitError } from '../error.ts'

/** Keys and indexes from the top. */
export type Path = readonly (string | number)[]

/** Plain values, and what to call a place among them. */
export interface RecipeSource {
  readonly value: unknown
  /** `recipe.yaml:4:7, modifiers.1.gptq`; a path that is not there names its nearest parent. */
  place(path: Path): string
}

/** Longest text that is taken for a recipe, in characters. */
const LENGTH_MAX = 1 << 20

/** Tags of a mapping or list by a language; what they hold is read as plain values. */
const QUIET = { logLevel: 'error', prettyErrors: true, uniqueKeys: true } as const

/** Parses YAML, which JSON is too; `recipe` with line and column when it is neither. */
export function parseSource(text: string, name: string): RecipeSource {
  if (text.length > LENGTH_MAX) {
    throw new LowbitError('recipe', `${text.length} characters are too many for a recipe`, {
      place: name,
    })
  }
  const lines = new LineCounter()
  const document = parseDocument(text, { ...QUIET, lineCounter: lines })
  const [error] = document.errors
  if (error) {
    const [start] = error.linePos ?? []
    const what = error.message.split(/ at line \d|\n/)[0] ?? error.message
    throw new LowbitError('recipe', `Not YAML: ${what}`, {
      place: start ? `${name}:${start.line}:${start.col}` : name,
    })
  }
  return {
    value: plainOf(document, name),
    place: (path) => {
      const at = offsetOf(document, path)
      const keys = path.length > 0 ? `, ${path.join('.')}` : ''
      if (at === undefined) return name + keys
      const { line, col } = lines.linePos(at)
      return `${name}:${line}:${col}${keys}`
    },
  }
}

/** Values that a caller made, whose places have no lines. */
export function objectSource(value: unknown, name: string): RecipeSource {
  return { value, place: (path) => (path.length > 0 ? `${name}.${path.join('.')}` : name) }
}

function plainOf(document: Document, name: string): unknown {
  try {
    const value: unknown = document.toJS({ maxAliasCount: 100 })
    return value
  } catch (cause) {
    // Aliases that unfold without end.
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new LowbitError('recipe', `Not a recipe: ${why}`, { place: name, cause })
  }
}

/** The first character of a key, or of the value where a list holds it. */
function offsetOf(document: Document, path: Path): number | undefined {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown =
      length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true)
    const last = path[length - 1]
    const node = isMap(parent)
      ? keyOf(parent.items, String(last))
      : document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return node.range[0]
  }
  return undefined
}

function keyOf(items: readonly { readonly key: unknown }[], name: string): Node | undefined {
  const found = items.find(({ key }) => isNode(key) && String(key.toJSON()) === name)?.key
  return isNode(found) ? found : undefined
}
