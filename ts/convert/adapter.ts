/** A LoRA adapter as PEFT writes it: a folder with its config and one file of tensors. */
import type { Binding } from '../binding.ts'
import { type Json, objectOf, textOf } from '../bytes.ts'
import { type Checkpoint, openCheckpoint } from '../checkpoint.ts'
import { LowbitError, quote } from '../error.ts'
import type { Source } from '../host.ts'
import { readLimited } from '../store/store.ts'

const CONFIG = 'adapter_config.json'
const TENSORS = 'adapter_model.safetensors'
const CONFIG_BYTES_MAX = 1 << 20

/** An opened adapter. */
export interface Adapter {
  readonly config: Json
  readonly tensors: Checkpoint
}

/** Opens an adapter's folder; `not-found` or `not-a-model` when it is none. */
export async function openAdapter(binding: Binding, { store }: Source): Promise<Adapter> {
  const names = new Set(await store.list())
  if (!names.has(CONFIG)) {
    throw new LowbitError('not-found', `There is no ${CONFIG}`, {
      place: store.place,
      remedy: "name an adapter's folder, as PEFT saves it",
    })
  }
  if (!names.has(TENSORS)) {
    const pickle = names.has('adapter_model.bin')
    const what = pickle ? `${quote('adapter_model.bin')} is a pickle, which is never opened` : ''
    throw new LowbitError(pickle ? 'not-a-model' : 'not-found', what || `There is no ${TENSORS}`, {
      place: store.place,
      remedy: 'save the adapter as safetensors',
    })
  }
  const place = `${store.place}/${CONFIG}`
  const text = textOf(await readLimited(store, CONFIG, CONFIG_BYTES_MAX), 'config', place)
  const tensors = await openCheckpoint(binding, { store, file: TENSORS })
  return { config: objectOf(text, 'config', place), tensors }
}
