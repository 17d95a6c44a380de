import test, { type ExecutionContext } from 'ava'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createApi } from '../ts/api.ts'
import type { Binding } from '../ts/binding.ts'
import { lazyBinding } from '../ts/calls.ts'
import { nodeHost } from '../ts/host.node.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { NAME, openBinding } from './binding.ts'
import { NOVELS, ROOT } from './helpers.ts'

/** The functions of the contract with how many arguments each takes. */
const ARITY: Readonly<Record<keyof Binding, number>> = {
  catalog: 0,
  header: 2,
  index: 1,
  ggufOpen: 2,
  ggufRows: 2,
  imatrix: 2,
  describe: 1,
  plan: 1,
  jobOpen: 2,
  jobPoll: 2,
  modelOpen: 1,
  modelPoll: 2,
  sessionOpen: 2,
  sessionPush: 2,
  sessionNext: 1,
  logits: 2,
  encode: 3,
  score: 3,
  close: 1,
}

/** Every binding that was built. */
async function bindings(t: ExecutionContext): Promise<ReadonlyMap<string, Binding>> {
  const all = new Map<string, Binding>()
  for (const name of ['node', 'wasm']) {
    if (name === 'wasm' && !existsSync(join(ROOT, 'wasm/lowbit_bg.wasm'))) {
      t.log('skipped: the wasm module is not built')
    } else {
      all.set(name, await openBinding(name))
    }
  }
  return all
}

test('binding: every one has the functions of the contract and no others', async (t) => {
  const contract = Object.keys(ARITY).toSorted()
  const passed = lazyBinding(() => Promise.reject(new Error('not called')))
  t.deepEqual(Object.keys(passed).toSorted(), contract)
  for (const [name, binding] of await bindings(t)) {
    // A class has them on its prototype.
    const plain = Object.getPrototypeOf(binding) === Object.prototype
    const own = Object.getOwnPropertyNames(plain ? binding : Object.getPrototypeOf(binding))
    // wasm-bindgen adds its destructors.
    const names = own.filter((key) => !/^(constructor|free|__.*)$/.test(key))
    t.deepEqual(names.toSorted(), contract, name)
  }
})

test('binding: every function takes the arguments of the contract', async (t) => {
  for (const [name, binding] of await bindings(t)) {
    for (const [method, arity] of Object.entries(ARITY)) {
      const found: unknown = Reflect.get(binding, method)
      // Native functions have no length; they refuse a call that lacks an argument.
      if (typeof found !== 'function') t.fail(`${name} has no ${method}`)
      else if (name === 'wasm') t.is(found.length, arity, method)
      else if (arity > 0) t.throws(() => void found.call(binding), undefined, method)
    }
  }
})

test('binding: the same mistakes give the same words', async (t) => {
  const words: unknown[][] = []
  for (const binding of (await bindings(t)).values()) {
    const failed = (call: Promise<unknown>): Promise<unknown> =>
      call.then(
        () => 'nothing failed',
        (error: unknown) =>
          error instanceof Error && 'code' in error ? [error.code, error.message] : error,
      )
    words.push([
      await failed(binding.header(Uint8Array.of(1, 2, 3), 3)),
      await failed(binding.index(new TextEncoder().encode('{"weight_map":{"a":"../b"}}'))),
      await failed(binding.plan('{"confg":{}}')),
      await failed(binding.jobOpen('{"config":{},"tensors":[]}', new Uint32Array(0))),
      await failed(binding.jobPoll(7, [])),
      await failed(binding.modelOpen('{"config":{},"tensors":[],"threads":0}')),
      await failed(binding.modelPoll(7, [])),
      await failed(binding.sessionOpen(7, '{}')),
      await failed(binding.sessionPush(7, Uint32Array.of(1))),
      await failed(binding.sessionNext(7)),
      await failed(binding.logits(7, Uint32Array.of(1))),
      await failed(binding.score(7, 0, Uint32Array.of(1))),
      await failed(binding.close(7)),
    ])
  }
  for (const other of words) t.deepEqual(other, words[0])
})

test('binding: RTN gives the same bytes from every one', async (t) => {
  const files: (readonly [string, Uint8Array])[][] = []
  for (const binding of (await bindings(t)).values()) {
    const out = memoryStore()
    await createApi(binding, nodeHost).quantize(NOVELS, { out, method: 'rtn' })
    files.push([...out.files].filter(([name]) => name.endsWith('.safetensors')))
  }
  t.is(files[0]?.length, 1)
  for (const other of files) t.deepEqual(other, files[0])
})

if (NAME === 'node') {
  test('binding: a worker thread can end while the native module works', async (t) => {
    const script = fileURLToPath(new URL('terminate.mjs', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 100_000 })
    t.is(stdout, 'ended 12 of 12\n')
  })
}
