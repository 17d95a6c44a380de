import test from 'ava'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LowbitError } from '../ts/error.ts'
import { openGguf } from '../ts/gguf.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { NAME, openApi, openBinding } from './binding.ts'
import { malformedGguf } from './gguf-malformed.ts'
import { BF16, gguf, qwenKeys, qwenTensors } from './gguf-writer.ts'
import { failsWith, NOVELS, tempFolder } from './helpers.ts'

const api = await openApi()
const binding = await openBinding()

test(`${NAME}: every malformed file gives its code`, async (t) => {
  const folder = await tempFolder(t)
  for (const [i, { name, code, bytes }] of malformedGguf().entries()) {
    const path = join(folder, `${i}.gguf`)
    await writeFile(path, bytes)
    const before = process.memoryUsage().rss
    const found = await api.inspect(path).then(
      () => 'ok',
      (error: unknown) => (error instanceof LowbitError ? error.code : String(error)),
    )
    t.is(found, code, name)
    const grown = process.memoryUsage().rss - before - 8 * bytes.length
    t.true(grown < 64 << 20, `${name}: ${grown} bytes more`)
  }
  // G27: less than was asked for, for ever.
  const whole = gguf(await qwenKeys(NOVELS), await qwenTensors(NOVELS, BF16))
  const base = memoryStore([['m.gguf', whole]])
  const short = {
    place: 'short',
    size: () => base.size('m.gguf'),
    identity: () => base.identity('m.gguf'),
    read: async () => whole.subarray(0, 1000),
    list: () => base.list(),
    begin: base.begin.bind(base),
    remove: base.remove.bind(base),
    free: base.free.bind(base),
    lock: base.lock.bind(base),
  }
  await failsWith(t, 'truncated', () => openGguf(binding, short, 'm.gguf'))
})
