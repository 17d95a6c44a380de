// Sets up, builds, and does the main job on the model in the repository: quantizes it twice,
// measures both against the original, and lets each of them write a paragraph.
import { join } from 'node:path'
import { build } from './build.mjs'
import { main, root, say, since } from './run.mjs'
import { saySkipped, setUp } from './setup.mjs'

const source = join(root, 'models', 'novels-4m')
const prompt = 'It was a cold morning of the early spring, and'
const sampling = { maxTokens: 96, temperature: 0.8, topK: 40, seed: 4 }

/** What is compared. All are measured in f32, as papers do, but the last, which shows what speed costs. */
const rows = [
  { name: 'original', compute: 'f32' },
  { name: 'RTN w4g128', method: 'rtn', compute: 'f32' },
  { name: 'GPTQ w4g128', method: 'gptq', compute: 'f32' },
  { name: 'GPTQ w4g128, int8 compute', method: 'gptq', compute: 'int8' },
]

await main(async () => {
  const ready = await setUp({ full: false })
  await build(ready, { only: ['native', 'ts'] })
  const lowbit = await import('../dist/index.node.js')
  await quantizeAll(lowbit)
  const original = await lowbit.load(source, { device: 'cpu', compute: 'f32' })
  const results = []
  for (const row of rows) results.push(await measure(lowbit, row, original))
  await original.dispose()
  printTable(results)
  for (const { name, text } of results.slice(0, 3)) console.log(`\n${name}:\n${prompt}${text}`)
  saySkipped(ready.skipped)
})

function folderOf(method) {
  return method ? join(root, 'out', `novels-4m-${method}-w4g128`) : source
}

async function quantizeAll({ quantize }) {
  for (const method of ['rtn', 'gptq']) {
    const start = performance.now()
    // Every run quantizes anew, so that the table speaks of the code at hand.
    const options = { out: folderOf(method), method, scheme: 'w4g128', fresh: true, force: true }
    await quantize(source, { ...options, onProgress: showProgress })
    clearProgress()
    say(`quantized with ${method} in ${since(start)}: ${folderOf(method).slice(root.length + 1)}`)
  }
}

async function measure({ load, evaluate }, { name, method, compute }, original) {
  const start = performance.now()
  const model = await load(folderOf(method), { device: 'cpu', compute })
  const figures = await evaluate(model, {
    ...(method && { reference: original }),
    onProgress: showProgress,
  })
  clearProgress()
  say(`evaluated ${name} in ${since(start)}`)
  const written = await write(model)
  await model.dispose()
  return { name, ...figures, ...written }
}

/** A paragraph, and how fast it came, first token included. */
async function write(model) {
  const start = performance.now()
  let text = ''
  let tokens = 0
  const onUsage = ({ completionTokens }) => (tokens = completionTokens)
  for await (const piece of model.generate(prompt, { ...sampling, onUsage })) text += piece
  return { text, speed: (tokens * 1000) / (performance.now() - start) }
}

function printTable(results) {
  const head = ['', 'bytes', 'bits/weight', 'perplexity', 'mean KL', 'same top', 'tokens/s']
  const lines = results.map((result) => [
    result.name,
    result.bytes.toLocaleString('en'),
    result.bitsPerWeight.toFixed(3),
    result.perplexity.toFixed(3),
    result.meanKld?.toFixed(6) ?? '-',
    result.sameTop === undefined ? '-' : `${(result.sameTop * 100).toFixed(2)} %`,
    result.speed.toFixed(0),
  ])
  const widths = head.map((_, i) => Math.max(...[head, ...lines].map((line) => line[i].length)))
  console.log()
  for (const line of [head, ...lines]) {
    const [name, ...numbers] = line.map((cell, i) =>
      i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]),
    )
    console.log([name, ...numbers].join('  '))
  }
}

/** A line that is overwritten, on a terminal only. */
function showProgress({ stage, layer, done, total }) {
  if (!process.stderr.isTTY) return
  const place = layer === undefined ? '' : ` block ${layer}`
  process.stderr.write(
    `\r\u001b[K${stage}${place} ${Math.round((100 * done) / Math.max(1, total))} %`,
  )
}

function clearProgress() {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
}
