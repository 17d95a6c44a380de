/** A binding made of one function: for those that are loaded late or live in a worker. */
import type { Binding } from './binding.ts'

/** What a function of the contract gives in the end. */
export type Result<Name extends keyof Binding> = Awaited<ReturnType<Binding[Name]>>

/** Passes a call on to where the binding is. */
export type Call = <Name extends keyof Binding>(
  name: Name,
  args: Parameters<Binding[Name]>,
) => Promise<Result<Name>>

/** Every function of the contract, each passed on by `call`. */
export function bindingOf(call: Call): Binding {
  return {
    catalog: (...args) => call('catalog', args),
    header: (...args) => call('header', args),
    index: (...args) => call('index', args),
    ggufOpen: (...args) => call('ggufOpen', args),
    ggufRows: (...args) => call('ggufRows', args),
    imatrix: (...args) => call('imatrix', args),
    describe: (...args) => call('describe', args),
    plan: (...args) => call('plan', args),
    jobOpen: (...args) => call('jobOpen', args),
    jobPoll: (...args) => call('jobPoll', args),
    modelOpen: (...args) => call('modelOpen', args),
    modelPoll: (...args) => call('modelPoll', args),
    sessionOpen: (...args) => call('sessionOpen', args),
    sessionPush: (...args) => call('sessionPush', args),
    sessionNext: (...args) => call('sessionNext', args),
    logits: (...args) => call('logits', args),
    encode: (...args) => call('encode', args),
    score: (...args) => call('score', args),
    close: (...args) => call('close', args),
  }
}

/** Loads a binding when its first function is called. */
export function lazyBinding(load: () => Promise<Binding>): Binding {
  let loaded: Promise<Binding> | undefined
  return bindingOf(async (name, args) => {
    loaded ??= load()
    const binding = await loaded
    return Reflect.apply(binding[name], binding, args)
  })
}
