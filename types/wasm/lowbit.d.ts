/**
 * What ts/ uses of the wasm module's JavaScript, for a machine on which that module is not built;
 * after a build wasm/lowbit.d.ts stands before this file (`rootDirs` in tsconfig.json).
 */
import type { Binding as Contract } from '../../ts/binding.ts'

export type InitInput = RequestInfo | URL | Response | BufferSource | WebAssembly.Module

export default function init(options?: {
  module_or_path: InitInput | Promise<InitInput>
}): Promise<unknown>

export const Binding: new () => Contract
