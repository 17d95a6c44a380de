/** The binding under test: LOWBIT_BINDING is `node` (default) or `wasm`. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createApi, type Lowbit } from '../ts/api.ts'
import type { Binding } from '../ts/binding.ts'
import { nodeHost } from '../ts/host.node.ts'
import { ROOT } from './helpers.ts'

/** Its name. */
export const NAME: string = process.env['LOWBIT_BINDING'] ?? 'node'

/** Opens a binding of its own: the one under test, or the named one. */
export async function openBinding(name: string = NAME): Promise<Binding> {
  if (name === 'wasm') {
    const { wasmBinding } = await import('../ts/wasm.ts')
    return wasmBinding(readFile(join(ROOT, 'wasm/lowbit_bg.wasm')))
  }
  const { nativeBinding } = await import('../ts/native.ts')
  return nativeBinding()
}

/** The functions of the package over it. */
export async function openApi(): Promise<Lowbit> {
  return createApi(await openBinding(), nodeHost)
}
