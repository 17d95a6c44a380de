/**
 * What ts/ uses of the wasm module's JavaScript. Written by hand, so that ts/ compiles where the wasm target cannot be had;
 * test/binding.test.ts holds the module itself to the contract.
 */
import type { Binding as Contract } from '../../ts/binding.ts'
import type { ModuleSource } from '../../ts/wasm.ts'

/** Compiles and instantiates the module, once. */
export default function init(options?: {
  module_or_path: ModuleSource | Promise<ModuleSource>
}): Promise<unknown>

export const Binding: new () => Contract
