// Loads a model over HTTP when it is first needed and streams what it writes.
import { load } from 'lowbit'

const [form, model, device, temperature, tokens, prompt, stop, status, text] = [
  'form',
  'model',
  'device',
  'temperature',
  'tokens',
  'prompt',
  'stop',
  'status',
  'text',
].map((id) => document.getElementById(id))

/** The model that is loaded, and what it was loaded from. */
let current = { key: '', model: undefined }

form.addEventListener('submit', async (event) => {
  event.preventDefault()
  const abort = new AbortController()
  const halt = () => abort.abort()
  stop.addEventListener('click', halt)
  busy(true)
  try {
    await write(await loaded(abort.signal), abort.signal)
  } catch (error) {
    say(error.code === 'aborted' ? 'Stopped.' : `error[${error.code}]: ${error.message}`, error)
  } finally {
    stop.removeEventListener('click', halt)
    busy(false)
  }
})

async function loaded(signal) {
  const key = `${device.value} ${model.value}`
  if (current.key === key) return current.model
  await current.model?.dispose()
  current = { key: '', model: undefined }
  const opened = await load(model.value, { device: device.value, signal, onProgress })
  current = { key, model: opened }
  return opened
}

function onProgress({ done, total }) {
  say(`Loading: ${Math.round((100 * done) / total)} %`)
}

async function write(running, signal) {
  text.textContent = prompt.value
  const options = {
    maxTokens: tokens.valueAsNumber,
    temperature: temperature.valueAsNumber,
    seed: Math.trunc(Math.random() * 2 ** 32),
    signal,
  }
  const start = performance.now()
  const pieces = running.generate(prompt.value, options)
  for (;;) {
    const { done, value } = await pieces.next()
    if (done) return say(summary(running, value, performance.now() - start))
    text.append(value)
  }
}

/** Device, size and speed, from what the model says about itself. */
function summary({ info, bytes }, usage, ms) {
  const where = info.gpu ? `GPU ${info.gpu.name || info.gpu.backend}` : `CPU (${info.isa})`
  const size = `${(bytes / 1e6).toFixed(1)} MB, ${info.bitsPerWeight.toFixed(2)} bits per weight`
  const speed = `${((1000 * usage.completionTokens) / ms).toFixed(1)} tokens/s`
  return `${info.architecture} on ${where}, ${info.compute}; ${size}; ${speed}`
}

function say(what, failed) {
  status.textContent = what
  status.toggleAttribute('data-failed', Boolean(failed))
}

function busy(is) {
  stop.disabled = !is
  document.getElementById('go').disabled = is
}
