/** The wasm module as a binding: in a worker of a page, or in Node from its bytes. */
import init, { Binding as Module } from '../wasm/lowbit.js'
import type { Binding } from './binding.ts'

/** Where the module comes from. */
export type ModuleSource = RequestInfo | URL | Response | BufferSource | WebAssembly.Module

/**
 * Instantiates the module once and opens a binding on it.
 *
 * @param source address, response or bytes of `lowbit_bg.wasm`; beside the script by default
 */
export async function wasmBinding(source?: ModuleSource | Promise<ModuleSource>): Promise<Binding> {
  await (source === undefined ? init() : init({ module_or_path: source }))
  return new Module()
}
