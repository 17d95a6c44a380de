import test from 'ava'
import { formatRows } from '../ts/formats.ts'
import { loadsScheme } from '../ts/quantize/engines.ts'
import { openApi } from './binding.ts'
import { ROOT } from './helpers.ts'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

const { formats } = await (await openApi()).catalog()

test('formats: what the plan says of our GPU is what the core says of its shaders', (t) => {
  t.true(formats.length > 8)
  for (const { name, schemes } of formats) {
    if (name === 'gguf' || name === 'safetensors') continue
    t.true(schemes.length > 0, name)
    for (const scheme of schemes) {
      const { loads } = loadsScheme('lowbit GPU', name, scheme.name)
      t.is(loads === 'yes', scheme.gpu, `${name} ${scheme.name}`)
    }
  }
})

test('formats: every engine is known to read every format or not', (t) => {
  for (const { format, schemes, engines } of formatRows({ formats })) {
    t.is(engines.length, 4)
    for (const { engine, loads } of engines) {
      t.not(loads, 'unknown', `${engine} and ${format} ${schemes.join(' ')}`)
    }
  }
})

test('formats: schemes that fare alike share a row, each stands in one', (t) => {
  const rows = formatRows({ formats })
  for (const { name, schemes } of formats) {
    const listed = rows.filter(({ format }) => format === name).flatMap((row) => row.schemes)
    t.is(new Set(listed).size, listed.length)
    const used = schemes.filter(({ read, write }) => read || write)
    t.deepEqual([...listed].toSorted(), used.map((scheme) => scheme.name).toSorted())
  }
  const find = (format: string, scheme: string): object | undefined =>
    rows.find((row) => row.format === format && row.schemes.includes(scheme))
  t.like(find('gguf', 'Q8_0'), { read: true, write: true, cpu: true, gpu: true, browser: true })
  t.like(find('gguf', 'IQ2_XXS'), { read: true, write: false, gpu: false })
  t.is(find('gguf', 'Q8_K'), undefined)
})

test('formats: as a table, as JSON, of one format', (t) => {
  const lowbit = (...args: readonly string[]): string =>
    execFileSync(process.execPath, [join(ROOT, 'ts/cli/main.ts'), 'formats', ...args], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
  t.regex(lowbit(), /^awq +yes +yes +yes +yes +yes +yes \(\d+\) +yes +yes +no +w4g128-asym$/m)
  const rows: { format: string }[] = JSON.parse(lowbit('gguf', '--json'))
  t.true(rows.length > 1 && rows.every(({ format }) => format === 'gguf'))
  t.throws(() => lowbit('ggfu'), {
    message: /error\[option\]: There is no format "ggfu"; did you mean "gguf"/,
  })
})
