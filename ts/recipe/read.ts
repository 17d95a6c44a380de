/** A recipe as callers name it (a preset, a file, a text, an object) to what the run needs. */
import { textOf } from '../bytes.ts'
import { LowbitError, nearest, quote } from '../error.ts'
import type { Host } from '../host.ts'
import { checkForm } from './check.ts'
import { type Compiled, compileForm } from './compile.ts'
import { isForeign, translate } from './foreign.ts'
import type { Presets } from './foreign-schemes.ts'
import { METHODS, type Preset, PRESETS } from './presets.ts'
import { objectSource, parseSource, type RecipeSource } from './source.ts'

/**
 * Reads, checks and compiles; `recipe` or `not-found` with the nearest preset. `schemes` are the names
 * that another tool's recipe may have for ours.
 */
export async function readRecipe(
  host: Host,
  given: string | object,
  schemes: Presets,
): Promise<Compiled> {
  if (typeof given !== 'string')
    return compileSource(objectSource(given, 'recipe'), 'a given recipe', schemes)
  const preset = PRESETS.find(({ name }) => name === given)
  if (preset) return compilePreset(preset)
  if (given.includes('\n'))
    return compileSource(parseSource(given, 'recipe'), 'a given recipe', schemes)
  if (!/[./\\]/.test(given)) throw unknownPreset(given)
  const text = textOf(await readFile(host, given), 'recipe', given)
  const name = baseName(given)
  const folder = given.slice(0, given.length - name.length)
  return { ...compileSource(parseSource(text, name), name, schemes), folder }
}

/** The recipe of a method that is more than a rounder, if it is one. */
export function methodRecipe(method: string | undefined): Compiled | undefined {
  const found = METHODS.find(({ name }) => name === method)
  return found && compilePreset(found)
}

/** The last part of a place. */
export function baseName(place: string): string {
  return place.split(/[/\\]/).at(-1) ?? place
}

function compilePreset({ name, recipe }: Preset): Compiled {
  return compileSource(objectSource(recipe, name), name, new Map())
}

function compileSource(source: RecipeSource, name: string, schemes: Presets): Compiled {
  if (!isForeign(source.value)) {
    return compileForm(checkForm(source), source, { name, foreign: false, notes: [] })
  }
  const { form, notes } = translate(source.value, source, schemes)
  // Places of the translation are not places of the text.
  return compileForm(form, objectSource(form, name), { name, foreign: true, notes })
}

async function readFile(host: Host, place: string): Promise<Uint8Array> {
  try {
    return await host.readText(place)
  } catch (error) {
    if (error instanceof LowbitError && error.code === 'not-found') throw notFound(place, error)
    throw error
  }
}

function notFound(place: string, cause: LowbitError): LowbitError {
  const near = nearest(
    place,
    PRESETS.map(({ name }) => name),
  )
  return new LowbitError('not-found', 'There is no recipe file of this name', {
    place,
    remedy: `name a file or a preset, such as ${near ?? ''}`,
    cause,
  })
}

function unknownPreset(name: string): LowbitError {
  const near = nearest(
    name,
    PRESETS.map((preset) => preset.name),
  )
  return new LowbitError('option', `There is no preset ${quote(name)}`, {
    remedy: `did you mean ${quote(near ?? '')}? lowbit recipes lists them; files end with .yaml or .json`,
  })
}
