// What tests do inside the page, with values that cross to Node as JSON.
import { calibrate, createLowbit, load, memoryStore, quantize } from '../../dist/index.browser.js'
import { loadedOf } from '../../dist/loaded.js'

/** Loads from an address, or from what `quantized` keeps under a name. */
async function open(place, options) {
  return load(kept.get(place) ?? place, options)
}

/** Stores that stay in the page between calls. */
const kept = new Map()

/** Greedy token ids, straight from the session. */
async function greedy(model, prompt, count) {
  const { binding, handle } = loadedOf(model)
  const session = await binding.sessionOpen(handle, '{"temperature":0}')
  await binding.sessionPush(session, Uint32Array.from(prompt))
  const ids = []
  while (ids.length < count) {
    const step = JSON.parse(await binding.sessionNext(session))
    if ('token' in step) ids.push(step.token)
  }
  await binding.close(session)
  return ids
}

const actions = {
  async info(place, options) {
    const model = await open(place, options)
    await model.dispose()
    return model.info
  },

  async greedy(place, options, prompts) {
    const model = await open(place, options)
    const all = []
    for (const { tokens, count } of prompts) all.push(await greedy(model, tokens, count))
    await model.dispose()
    return all
  },

  async generate(place, options, prompt, generation) {
    const model = await open(place, options)
    const pieces = []
    for await (const piece of model.generate(prompt, generation)) pieces.push(piece)
    await model.dispose()
    return pieces
  },

  async logits(place, options, tokens) {
    const model = await open(place, options)
    const logits = await model.logits(Uint32Array.from(tokens))
    await model.dispose()
    return [...logits]
  },

  /** Quantizes into memory, keeps it as `name` and gives the SHA-256 of every file. */
  async quantize(place, options, name) {
    const store = memoryStore([], name)
    await quantize(place, { ...options, out: store })
    kept.set(name, store)
    const digests = {}
    for (const [file, bytes] of store.files) {
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
      digests[file] = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')
    }
    return digests
  },

  /** Makes a calibration set in memory and gives its files. */
  async calibrate(name, bytes, options) {
    const out = memoryStore()
    await calibrate({ name, bytes: Uint8Array.from(bytes) }, { ...options, out })
    const texts = [...out.files].map(([file, body]) => [file, new TextDecoder().decode(body)])
    return Object.fromEntries(texts)
  },

  async failure(place, options) {
    try {
      await open(place, options)
      return null
    } catch (error) {
      return { name: error.name, code: error.code, message: error.message }
    }
  },

  /** What becomes of a call when its worker ends. */
  async terminated() {
    const lowbit = createLowbit()
    const model = await lowbit.load('/models/novels-4m')
    const pending = model.logits(new Uint32Array(512)).then(
      () => 'finished',
      (error) => error.code,
    )
    lowbit.terminate()
    const later = await model.logits(Uint32Array.of(1)).catch((error) => error.code)
    return [await pending, later]
  },
}

globalThis.act = (name, ...args) => actions[name](...args)
