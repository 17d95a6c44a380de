/** The native module of this platform: from this package, or from the optional one beside it. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { Binding } from './binding.ts'
import { LowbitError } from './error.ts'

/** What a native module exports. */
interface Native {
  readonly Binding: new () => Binding
}

/** `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`: as napi-rs names platforms. */
export function platformName(
  platform: string = process.platform,
  arch: string = process.arch,
  musl: boolean = platform === 'linux' && isMusl(),
): string {
  if (platform === 'linux') return `linux-${arch}-${musl ? 'musl' : 'gnu'}`
  if (platform === 'win32') return `win32-${arch}-msvc`
  return `${platform}-${arch}`
}

/** Loads the native module and opens a binding of its own; no state is shared between two. */
export async function nativeBinding(): Promise<Binding> {
  const name = platformName()
  const require = createRequire(import.meta.url)
  const own = fileURLToPath(new URL(`../native/lowbit.${name}.node`, import.meta.url))
  const place = existsSync(own) ? own : `lowbit-${name}`
  silenceDrivers()
  try {
    const native: unknown = require(place)
    if (isNative(native)) return new native.Binding()
    throw new Error('it exports no Binding')
  } catch (cause) {
    throw new LowbitError('unsupported', `The native module for ${name} does not load`, {
      place,
      remedy: `reinstall with optional dependencies, or run npm run build:native in a checkout (${messageOf(cause)})`,
      cause,
    })
  }
}

/**
 * Mesa's device selection asks the desktop session which GPU is preferred, and complains on stderr
 * where there is no session; without one there is nothing to ask.
 */
function silenceDrivers(): void {
  const { env, platform } = process
  if (platform !== 'linux' || env['XDG_RUNTIME_DIR'] || env['DISPLAY']) return
  env['NODEVICE_SELECT'] ??= '1'
}

function isNative(module: unknown): module is Native {
  if (typeof module !== 'object' || module === null) return false
  return 'Binding' in module && typeof module.Binding === 'function'
}

function messageOf(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause)
  return text.split('\n', 1)[0] ?? text
}

/** Distributions with musl have an `ldd` that says so; elsewhere Node's report knows. */
function isMusl(): boolean {
  try {
    return readFileSync('/usr/bin/ldd', 'utf8').includes('musl')
  } catch {
    const report: unknown = process.report.getReport()
    const header = typeof report === 'object' && report && 'header' in report && report.header
    return typeof header === 'object' && header !== null && !('glibcVersionRuntime' in header)
  }
}
