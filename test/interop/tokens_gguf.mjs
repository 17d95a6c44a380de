/**
 * Writes a GGUF file for every kind of tokenizer and compares the tokens that llama.cpp and lowbit
 * make of texts that tell tokenizers apart.
 *
 * Made with: node-llama-cpp@3.22.1, installed in a folder of its own
 * Run:       node test/interop/tokens_gguf.mjs FOLDER
 *
 * Exits with 1 when a file does not load or more texts of a tokenizer differ than `KNOWN` says.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { convert, load } from '../../ts/index.node.ts'
import { dress, NASTY, tokenizers } from '../tokenizers.ts'
import { openLlama } from './llama.mjs'

/**
 * Texts that differ: llama.cpp does not compose letters for Qwen2, and takes only spaces for white
 * space where a Unigram has no map of letters, as the one here.
 */
const KNOWN = { qwen2: 1, t5: 4 }

const [folder] = process.argv.slice(2)
const say = (text) => process.stdout.write(`${text}\n`)

async function main() {
  const llama = await openLlama(folder)
  const root = await mkdtemp(join(tmpdir(), 'lowbit-tokens-'))
  let failed = 0
  for (const [family, files] of await tokenizers()) {
    const place = join(root, family)
    const file = join(root, `${family}.gguf`)
    await dress(place, files)
    await convert(place, { out: file, scheme: 'Q8_0' })
    const ours = await load(file, { device: 'cpu' })
    const theirs = await llama.loadModel({ modelPath: file, vocabOnly: true })
    const different = NASTY.filter((text) => {
      const own = ours.tokenize(text, false).join(' ')
      return theirs.tokenize(text, false).join(' ') !== own
    })
    const same = `${NASTY.length - different.length} of ${NASTY.length} texts`
    say(`${family.padEnd(8)} ${same}${different.map((t) => `\n  ${JSON.stringify(t)}`).join('')}`)
    failed += Number(different.length > (KNOWN[family] ?? 0))
    await theirs.dispose()
    await ours.dispose()
  }
  await rm(root, { recursive: true })
  process.exitCode = failed > 0 ? 1 : 0
}

await main()
