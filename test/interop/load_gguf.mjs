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
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

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

/** Natural logarithms of the probabilities of one row of logits. */
function logProbabilities(row) {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity)
  const sum = row.reduce((a, b) => a + Math.exp(b - max), 0)
  return Array.from(row, (v) => v - max - Math.log(sum))
}

/** Divergence of llama.cpp's probabilities from ours at one token, and whether the tops agree. */
function compare(row, probabilities) {
  const ours = logProbabilities(row)
  let kl = 0
  let off = 0
  for (const [token, p] of ours.entries()) {
    const theirs = Math.max(probabilities.get(token) ?? 0, 1e-12)
    kl += Math.exp(p) * (p - Math.log(theirs))
    off = Math.max(off, Math.abs(Math.exp(p) - theirs))
  }
  const top = ours.indexOf(Math.max(...ours))
  const [best] = probabilities.keys()
  return { kl, off, same: top === best }
}

async function main() {
  const require = createRequire(join(resolve(folder), 'index.js'))
  const { getLlama } = await import(pathToFileURL(require.resolve('node-llama-cpp')).href)
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'warn' })
  const loaded = await llama.loadModel({ modelPath: resolve(model) })
  const all = { kl: 0, off: 0, same: 0, tokens: 0 }
  for (const { tokens, wanted } of await prompts(logits)) {
    const context = await loaded.createContext({ contextSize: Math.max(tokens.length + 8, 64) })
    const sequence = context.getSequence()
    const next = { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } }
    const input = tokens.map((token) => [token, { generateNext: next }])
    const found = await sequence.controlledEvaluate(input)
    const width = wanted.length / tokens.length
    for (const [i, output] of found.entries()) {
      const row = wanted.subarray(i * width, (i + 1) * width)
      const { kl, off, same } = compare(row, output.next.probabilities)
      all.kl += kl
      all.off = Math.max(all.off, off)
      all.same += Number(same)
      all.tokens += 1
    }
    await context.dispose()
  }
  const kl = all.kl / all.tokens
  const top = all.same / all.tokens
  const failed = !(kl <= bounds.kl && top >= bounds.top)
  const most = all.off.toExponential(1)
  say(
    `${all.tokens} tokens, mean KL ${kl.toExponential(2)}, most ${most} off, ` +
      `same top token ${(100 * top).toFixed(2)} %`,
  )
  if (failed) say(`FAILED: wanted ${bounds.kl} and ${100 * bounds.top} %`)
  await loaded.dispose()
  process.exitCode = failed ? 1 : 0
}

await main()
