import test from 'ava'
import { createApi } from '../ts/api.ts'
import { nodeHost } from '../ts/host.node.ts'
import { checkOptions } from '../ts/option-rules.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { fakeBinding } from './fake-binding.ts'
import { failsWith, NOVELS } from './helpers.ts'

test('checkOptions: an unknown key names the nearest', async (t) => {
  const error = await failsWith(t, 'option', () => checkOptions('quantize', { shceme: 'w4' }))
  t.is(error.message, 'quantize has no option "shceme"; did you mean "scheme"?')
})

test('checkOptions: a value of the wrong kind or range says what fits', async (t) => {
  const wrong: readonly [Parameters<typeof checkOptions>[0], object, RegExp][] = [
    ['load', { threads: 0 }, /threads is "0"; use a whole number from 1 to 1024/],
    ['load', { threads: 1.5 }, /whole number/],
    ['load', { device: 'tpu' }, /use auto, cpu or gpu/],
    ['generate', { temperature: Number.NaN }, /temperature is "NaN"/],
    ['generate', { topP: 2 }, /from 0 to 1/],
    ['evaluate', { text: 3 }, /text is "3"; use a text/],
    ['quantize', { force: 'yes' }, /use true or false/],
  ]
  for (const [name, options, pattern] of wrong) {
    const error = await failsWith(t, 'option', () => checkOptions(name, options))
    t.regex(error.message, pattern)
  }
})

test('checkOptions: undefined is as good as absent', (t) => {
  t.notThrows(() => checkOptions('load', { threads: undefined }))
})

test('quantize: layers that are no pairs are refused', async (t) => {
  const api = createApi(fakeBinding(), nodeHost)
  const options = { out: memoryStore(), layers: [['a']] }
  // What a caller without types may give.
  await failsWith(t, 'option', () => Reflect.apply(api.quantize, api, [NOVELS, options]))
})

test('quantize: refuses what it cannot do before it reads', async (t) => {
  const api = createApi(fakeBinding(), nodeHost)
  const out = memoryStore()
  await failsWith(t, 'unsupported', () => api.quantize(NOVELS, { out, compute: 'int8' }))
  await failsWith(t, 'option', () => api.quantize(NOVELS, { out, method: 'gtpq' }))
  const gguf = await failsWith(t, 'option', () => api.quantize(NOVELS, { out, scheme: 'q8_0' }))
  t.regex(gguf.message, /GGUF is written by convert; call convert\(.*'Q8_0'/)
  t.is(out.files.size, 0)
})
