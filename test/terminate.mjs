// Ends worker threads in the middle of what the native module does for them; a crash ends us.
import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'

const ROUNDS = 12

if (isMainThread) {
  let ended = 0
  for (let round = 0; round < ROUNDS; round++) {
    const worker = new Worker(new URL(import.meta.url))
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    // From the first moment of a pass to well into it.
    await pause(round * 4)
    await worker.terminate()
    ended += 1
  }
  process.stdout.write(`ended ${ended} of ${ROUNDS}\n`)
} else {
  const { nativeBinding } = await import('../ts/native.ts')
  const binding = await nativeBinding()
  const model = await load(binding)
  parentPort.postMessage('working', [])
  const tokens = new Uint32Array(512).fill(7)
  await Promise.all([binding.logits(model, tokens), binding.score(model, 0, tokens)])
}

/** novels-4m, read as the facade would. */
async function load(binding) {
  const folder = new URL('../models/novels-4m/', import.meta.url)
  const file = new Uint8Array(await readFile(new URL('model.safetensors', folder)))
  const { tensors, dataStart } = JSON.parse(await binding.header(file, file.length))
  const config = JSON.parse(await readFile(new URL('config.json', folder), 'utf8'))
  const listed = tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }))
  const handle = await binding.modelOpen(JSON.stringify({ config, tensors: listed }))
  const bytes = new Map(
    tensors.map(({ name, begin, end }) => [name, file.slice(dataStart + begin, dataStart + end)]),
  )
  let answer = []
  for (;;) {
    const ask = JSON.parse((await binding.modelPoll(handle, answer)).ask)
    if (ask.kind === 'done') return handle
    answer = ask.tensors.map((name) => bytes.get(name))
  }
}
