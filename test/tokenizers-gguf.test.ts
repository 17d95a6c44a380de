/** Every kind of tokenizer gives the ids of the original when it is read back from GGUF. */
import test from 'ava'
import { join } from 'node:path'
import { openGguf } from '../ts/gguf.ts'
import { fsStore } from '../ts/store/fs.ts'
import { needTokenizer, openTokenizer } from '../ts/text/tokenizer.ts'
import { NAME, openApi, openBinding } from './binding.ts'
import { tempFolder } from './helpers.ts'
import { dress, NASTY, tokenizers } from './tokenizers.ts'

const api = await openApi()
const binding = await openBinding()

for (const [family, files] of await tokenizers()) {
  test(`${NAME}: ${family}'s tokens come back from GGUF`, async (t) => {
    const folder = await tempFolder(t)
    const model = join(folder, 'model')
    await dress(model, files)
    await api.convert(model, { out: join(folder, 'm.gguf'), scheme: 'Q8_0' })
    const original = needTokenizer(await openTokenizer(fsStore(model)), model)
    const { store } = await openGguf(binding, fsStore(folder), 'm.gguf')
    const back = needTokenizer(await openTokenizer(store), 'm.gguf')
    for (const text of NASTY) {
      const ids = original.encode(text, false)
      t.deepEqual(back.encode(text, false), ids, JSON.stringify(text))
      t.deepEqual(back.encode(text, true), original.encode(text, true), JSON.stringify(text))
      t.is(back.decode(ids), original.decode(ids), JSON.stringify(text))
    }
    const all = original.encode(NASTY.join(' '), false)
    t.true(new Set(all).size > 5, `${new Set(all).size} tokens`)
  })
}
