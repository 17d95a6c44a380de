/** llama.cpp in node-llama-cpp, which is installed in a folder of its own. */
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

/** llama.cpp on the CPU. */
export async function openLlama(folder) {
  const require = createRequire(join(resolve(folder), 'index.js'))
  const { getLlama } = await import(pathToFileURL(require.resolve('node-llama-cpp')).href)
  return getLlama({ gpu: false, maxThreads: 1, build: 'never', logLevel: 'error' })
}

/** Natural logarithms of the probabilities of one row of logits. */
function logProbabilities(row) {
  const max = row.reduce((a, b) => Math.max(a, b), -Infinity)
  const sum = row.reduce((a, b) => a + Math.exp(b - max), 0)
  return Array.from(row, (v) => v - max - Math.log(sum))
}

/** Divergence of llama.cpp's probabilities from ours at one token, and whether the tops agree. */
function compareToken(row, probabilities) {
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

/**
 * Loads a file and compares its probabilities with logits `[tokens, vocabulary]` of prompts: mean
 * divergence in nats, the largest difference of a probability, how often the tops agree.
 */
export async function compare(llama, file, prompts) {
  const model = await llama.loadModel({ modelPath: resolve(file) })
  const all = { kl: 0, off: 0, same: 0, tokens: 0 }
  for (const { tokens, wanted } of prompts) {
    const context = await model.createContext({ contextSize: Math.max(tokens.length + 8, 64) })
    const sequence = context.getSequence()
    const next = { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } }
    const input = tokens.map((token) => [token, { generateNext: next }])
    const found = await sequence.controlledEvaluate(input)
    const width = wanted.length / tokens.length
    for (const [i, output] of found.entries()) {
      const row = wanted.subarray(i * width, (i + 1) * width)
      const { kl, off, same } = compareToken(row, output.next.probabilities)
      all.kl += kl
      all.off = Math.max(all.off, off)
      all.same += Number(same)
      all.tokens += 1
    }
    await context.dispose()
  }
  await model.dispose()
  return { tokens: all.tokens, kl: all.kl / all.tokens, off: all.off, top: all.same / all.tokens }
}
