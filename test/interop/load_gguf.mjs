/**
 * Loads a GGUF file in llama.cpp and compares its token probabilities with lowbit's.
 *
 * Made with: node-llama-cpp@3.22.1, installed in a folder of its own
 * Run:       node test/interop/load_gguf.mjs FOLDER MODEL.gguf LOGITS [--kl 1e-3] [--top 0.98]
 *
 * FOLDER is where node-llama-cpp is installed. LOGITS is a safetensors file of `logits.ts` beside
 * this file, from the same weights (`export_gguf` writes them as floats), or a fixture with the logits
 * of transformers, for a file without rounding. llama.cpp rounds
 * activations to 8 bits, so the bound is on the mean Kullback-Leibler divergence, in nats, and on
 * how often the most likely token is the same. Exits with 1 when one is missed.
 */
import { readFile } from 'node:fs/promises'
import { compare, openLlama } from './llama.mjs'

const [folder, model, logits, ...options] = process.argv.slice(2)
const option = (name, absent) => {
  const at = options.indexOf(name)
  return at < 0 ? absent : Number(options[at + 1])
}
const say = (text) => process.stdout.write(`${text}\n`)
const bounds = { kl: option('--kl', 1e-3), top: option('--top', 0.98) }

/** Tokens and logits `[tokens, vocabulary]` by prompt. */
async function prompts(path) {
  const bytes = await readFile(path)
  const start = 8 + Number(bytes.readBigUInt64LE())
  const header = JSON.parse(bytes.toString('utf8', 8, start))
  const data = (name) => {
    const [begin, end] = header[name].data_offsets
    return Uint8Array.from(bytes.subarray(start + begin, start + end)).buffer
  }
  const names = Object.keys(header).filter((name) => /(^|\.)tokens$/.test(name))
  return names.map((name) => {
    const tokens = Array.from(new BigInt64Array(data(name)), Number)
    const wanted = new Float32Array(data(name.replace(/tokens$/, 'logits')))
    return { tokens, wanted }
  })
}

async function main() {
  const llama = await openLlama(folder)
  const { tokens, kl, off, top } = await compare(llama, model, await prompts(logits))
  const failed = !(kl <= bounds.kl && top >= bounds.top)
  say(
    `${tokens} tokens, mean KL ${kl.toExponential(2)}, most ${off.toExponential(1)} off, ` +
      `same top token ${(100 * top).toFixed(2)} %`,
  )
  if (failed) say(`FAILED: wanted ${bounds.kl} and ${100 * bounds.top} %`)
  process.exitCode = failed ? 1 : 0
}

await main()
