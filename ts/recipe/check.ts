/** Checks a recipe against its schema; the first thing that is wrong is named with its place. */
import { type Schema as AnySchema, Validator } from '@cfworker/json-schema'
import { isObject } from '../bytes.ts'
import { LowbitError, nearest, quote } from '../error.ts'
import { listText } from '../option-rules.ts'
import type { RecipeForm } from './form.ts'
import { type Schema, SCHEMA } from './schema.ts'
import type { Path, RecipeSource } from './source.ts'

/** Keywords that only say that something below them is wrong. */
const OUTER = new Set(['properties', 'items', 'additionalProperties'])

/** What the schema allows; `recipe` with place and remedy for the first thing it does not. */
export function checkForm(source: RecipeSource): RecipeForm {
  // A copy, because the validator writes into what it is given.
  const schema: AnySchema = JSON.parse(JSON.stringify(SCHEMA))
  const { errors } = new Validator(schema, '2020-12', false).validate(source.value)
  const own = errors.filter(({ keyword }) => !OUTER.has(keyword))
  // A key that is not there explains one that is missing.
  const first = own.find(({ keyword }) => keyword === 'false') ?? own[0]
  if (first) {
    const path = pathOf(first.instanceLocation)
    throw first.keyword === 'false' ? unknownKey(source, path) : wrongValue(source, path, first)
  }
  if (isForm(source.value)) return source.value
  throw new LowbitError('internal', 'A recipe that fits its schema is none')
}

/** The schema has said so already; this tells the compiler. */
function isForm(value: unknown): value is RecipeForm {
  return isObject(value) && Array.isArray(value['modifiers'])
}

function unknownKey(source: RecipeSource, path: Path): LowbitError {
  const known = Object.keys(schemaAt(path.slice(0, -1))?.properties ?? {})
  const key = String(path.at(-1))
  const near = nearest(key, known)
  const kind = path[0] === 'modifiers' && path.length === 3 ? 'modifier' : 'key'
  return new LowbitError('recipe', `There is no ${kind} ${quote(key)} here`, {
    place: source.place(path),
    remedy: near && `did you mean ${quote(near)}? There are ${listText(known)}`,
  })
}

interface Found {
  readonly keyword: string
}

function wrongValue(source: RecipeSource, path: Path, found: Found): LowbitError {
  const schema = schemaAt(path) ?? {}
  const value = valueAt(source.value, path)
  const refuse = (what: string, remedy?: string): LowbitError =>
    new LowbitError('recipe', what, { place: source.place(path), remedy })
  if (found.keyword === 'required') {
    const missing = (schema.required ?? []).filter((name) => !isObject(value) || !(name in value))
    const remedy = 'a recipe begins with lowbit: 1 and lists its modifiers'
    return refuse(`${listText(missing)} is missing`, path.length === 0 ? remedy : undefined)
  }
  if (found.keyword === 'maxProperties' || found.keyword === 'minProperties') {
    return refuse(
      'an entry of modifiers names one modifier',
      'begin each modifier with a dash of its own',
    )
  }
  const shown = typeof value === 'string' ? quote(value) : JSON.stringify(value)
  return refuse(
    `${path.at(-1) ?? 'it'} is ${shown ?? 'nothing'}`,
    `use ${expected(schema)}${suggestion(value, schema)}`,
  )
}

function suggestion(value: unknown, schema: Schema): string {
  if (typeof value !== 'string' || !schema.enum) return ''
  return `; did you mean ${quote(nearest(value, schema.enum.map(String)) ?? '')}?`
}

/** `a whole number of at least 1`, from a schema. */
function expected(schema: Schema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (schema.enum) return listText(schema.enum.map(String))
  const types = [schema.type ?? []].flat().filter((type) => type !== 'null')
  const names = types.map((type) => TYPES[type] ?? type)
  return listText(names) + bounds(schema)
}

const TYPES: Readonly<Record<string, string>> = {
  object: 'keys with values',
  array: 'a list',
  string: 'a text',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
}

function bounds(schema: Schema): string {
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum, examples } = schema
  const parts = [
    minimum === undefined ? '' : `at least ${minimum}`,
    exclusiveMinimum === undefined ? '' : `above ${exclusiveMinimum}`,
    maximum === undefined ? '' : `at most ${maximum}`,
    exclusiveMaximum === undefined ? '' : `below ${exclusiveMaximum}`,
    examples === undefined ? '' : `a text as ${listText(examples)}`,
  ].filter((part) => part !== '')
  return parts.length === 0 ? '' : `, ${parts.join(', ')}`
}

/** The schema of a place, as far as there is one. */
function schemaAt(path: Path): Schema | undefined {
  let schema: Schema | undefined = SCHEMA
  for (const key of path) {
    if (typeof key === 'number') schema = schema?.items
    else {
      const { properties, additionalProperties }: Schema = schema ?? {}
      const open = typeof additionalProperties === 'object' ? additionalProperties : undefined
      schema = properties?.[key] ?? open
    }
  }
  return schema
}

function valueAt(value: unknown, path: Path): unknown {
  let found = value
  for (const key of path) {
    if (typeof found !== 'object' || found === null) return undefined
    found = Reflect.get(found, key)
  }
  return found
}

/** `#/modifiers/0/gptq` as keys and indexes. */
function pathOf(location: string): Path {
  const parts = location.split('/').slice(1).map(unescapePart)
  let schema: Schema | undefined = SCHEMA
  return parts.map((part, i) => {
    schema = schemaAt(parts.slice(0, i).map(numberOr))
    return schema?.items && !schema.properties ? Number(part) : part
  })
}

function numberOr(part: string): string | number {
  return /^\d+$/.test(part) ? Number(part) : part
}

function unescapePart(part: string): string {
  return decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
}
