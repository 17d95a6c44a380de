import test from 'ava'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errorLine } from '../ts/cli/program.ts'
import { CODES, errorFrom, LowbitError, nearest, quote } from '../ts/error.ts'
import { ROOT } from './helpers.ts'

test('CODES: equal the table of the core', async (t) => {
  const source = await readFile(join(ROOT, 'crates/lowbit/src/error.rs'), 'utf8')
  const table = source.slice(source.indexOf('codes! {'))
  const names = [...table.matchAll(/^ {4}\w+ "([a-z-]+)" "/gm)].map((match) => match[1])
  t.deepEqual([...CODES], names)
})

test('LowbitError: says what, where and the remedy', (t) => {
  const error = new LowbitError('shape', '3 is odd', { place: 'a.txt', remedy: 'use 4' })
  t.is(error.message, '3 is odd, in a.txt; use 4')
  t.is(errorLine(error), 'error[shape]: 3 is odd, in a.txt; use 4')
})

test('errorFrom: keeps the code of the binding and puts the file in front', (t) => {
  const thrown = Object.assign(new Error('the header is cut; download again'), {
    code: 'truncated',
  })
  const error = errorFrom(thrown, 'internal', 'm.safetensors')
  t.is(error.code, 'truncated')
  t.is(error.message, 'm.safetensors: the header is cut; download again')
  t.is(error.cause, thrown)
})

test('errorFrom: gives system errors a meaning', (t) => {
  t.is(codeOf('ENOENT'), 'not-found')
  t.is(codeOf('ENOSPC'), 'disk-full')
  t.is(codeOf('EIO'), 'io')
  t.is(codeOf('ERR_INVALID_ARG_TYPE'), 'internal')
})

test('errorLine: is one line whatever a file wrote into it', (t) => {
  t.is(errorLine(new LowbitError('name', 'a\nb\u001b[2J\u2028c')), 'error[name]: a b [2J c')
  t.is(quote('a\u202eb\n'), '"a\\u202eb\\n"')
})

test('nearest: finds the typo', (t) => {
  t.is(nearest('shceme', ['scheme', 'method', 'seed']), 'scheme')
})

function codeOf(name: string): string {
  return errorFrom(Object.assign(new Error(name), { code: name })).code
}
