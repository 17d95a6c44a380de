/**
 * llm-compressor's recipe files (0.14) as they are: stages of groups of modifiers. What would change
 * the result and is not done here is refused by name; what would not is let pass or noted.
 */
import { isObject, type Json } from '../bytes.ts'
import { LowbitError, nearest, quote } from '../error.ts'
import { listText } from '../option-rules.ts'
import type { ModifierForm, RecipeForm } from './form.ts'
import { cacheOf } from './foreign-cache.ts'
import { refuse, type Translating } from './foreign-parts.ts'
import type { Presets } from './foreign-schemes.ts'
import { FOREIGN, type ForeignRow, REFUSED } from './foreign-rows.ts'
import type { Path, RecipeSource } from './source.ts'

/** A recipe of ours with the same effect. */
export interface Translated {
  readonly form: RecipeForm
  readonly notes: readonly string[]
}

/** Settings that only training, or the tool itself, looks at. */
const HARMLESS: ReadonlySet<string> = new Set([
  'group',
  'index',
  'start',
  'end',
  'update',
  'requires_calibration_data',
])

const STAGE = /_stage(_\d+)?$/
const GROUP = /_modifiers$/

/** Whether a value has stages at its top. */
export function isForeign(value: unknown): value is Json {
  return isObject(value) && Object.keys(value).some((key) => STAGE.test(key))
}

/** Translates a recipe; `recipe` names the modifier or key that is not done here. */
export function translate(value: Json, source: RecipeSource, presets: Presets): Translated {
  const notes: string[] = []
  const modifiers: ModifierForm[] = []
  const caches = new Set<string>()
  for (const { name, args, path } of modifiersOf(value, source)) {
    const row = FOREIGN[name]
    if (!row) throw unknownModifier(name, source.place(path))
    const at: Translating = { source, path, name, presets, notes, caches }
    checkKeys(args, row, at)
    modifiers.push(...row.to(args, at))
    addCache(args, at)
  }
  const [cache] = caches
  const form = {
    lowbit: 1,
    modifiers,
    ...(cache === undefined ? {} : { 'kv-cache': cache }),
  } as const
  return { form, notes: [...new Set(notes)] }
}

/** All modifiers speak of one cache. */
function addCache(args: Json, at: Translating): void {
  const cache = cacheOf(args, at)
  if (cache === undefined) return
  at.caches.add(cache)
  if (at.caches.size > 1)
    throw refuse(at, 'kv_cache_scheme', 'the cache has two schemes', 'keep one of them')
}

interface Found {
  readonly name: string
  readonly args: Json
  readonly path: Path
}

function modifiersOf(value: Json, source: RecipeSource): readonly Found[] {
  const found: Found[] = []
  for (const [stage, groups] of Object.entries(value)) {
    if (stage === 'args' && isEmpty(groups)) continue
    checkEnding(STAGE, stage, [stage], source)
    for (const [group, modifiers] of Object.entries(objectAt(groups, [stage], source))) {
      if (group === 'run_type') continue
      checkEnding(GROUP, group, [stage, group], source)
      for (const [name, args] of Object.entries(objectAt(modifiers, [stage, group], source))) {
        const path = [stage, group, name]
        found.push({ name, args: args === null ? {} : objectAt(args, path, source), path })
      }
    }
  }
  return found
}

function isEmpty(value: unknown): boolean {
  return value === null || (isObject(value) && Object.keys(value).length === 0)
}

function checkEnding(ending: RegExp, key: string, path: Path, source: RecipeSource): void {
  if (ending.test(key)) return
  const [what, end] = ending === STAGE ? ['stage', '_stage'] : ['group', '_modifiers']
  throw wrong(`${quote(key)} is no ${what}`, source.place(path), `their names end with ${end}`)
}

function objectAt(value: unknown, path: Path, source: RecipeSource): Json {
  if (isObject(value)) return value
  throw wrong(
    `${String(path.at(-1))} holds no keys`,
    source.place(path),
    'expected keys with values',
  )
}

function unknownModifier(name: string, place: string): LowbitError {
  const reason = REFUSED[name]
  if (reason !== undefined)
    return new LowbitError('recipe', `${name} is not done here: ${reason}`, { place })
  const near = nearest(name, Object.keys(FOREIGN))
  return wrong(`There is no modifier ${quote(name)}`, place, `did you mean ${quote(near ?? '')}?`)
}

/** Unknown keys, and known ones with values that are not followed, are refused by name. */
function checkKeys(args: Json, row: ForeignRow, at: Translating): void {
  const free = new Set([...HARMLESS, ...row.used, ...(row.harmless ?? [])])
  for (const [key, value] of Object.entries(args)) {
    if (free.has(key)) continue
    const allowed = row.only?.[key]
    const place = at.source.place([...at.path, key])
    if (!allowed) {
      const near = nearest(key, [...free, ...Object.keys(row.only ?? {})])
      throw wrong(
        `${at.name} has no key ${quote(key)}`,
        place,
        `did you mean ${quote(near ?? '')}?`,
      )
    }
    checkValue(key, value, allowed, place)
  }
}

function checkValue(key: string, value: unknown, allowed: readonly unknown[], place: string): void {
  const texts = allowed.map((one) => JSON.stringify(one))
  const text = JSON.stringify(value)
  if (value === null || texts.includes(text)) return
  const use = texts.length > 0 ? `use ${listText(texts)} or leave it out` : 'leave it out'
  throw wrong(`${key} ${text} is not done here`, place, use)
}

function wrong(what: string, place: string, remedy: string): LowbitError {
  return new LowbitError('recipe', what, { place, remedy })
}
