// Finds or installs what building and testing need, on a plain Node 20 and without dependencies.
//   node scripts/setup.mjs           everything that `npm test` uses
// Safe to repeat: what is there is found in well under a second. The system's package manager is
// used only by root on a CI machine, or where LOWBIT_SETUP=system says so; everywhere else the one
// command to run is printed and the rest goes on without it.
import { pathToFileURL } from 'node:url'
import { main, say } from './run.mjs'
import { cargoTools } from './setup/cargo-tools.mjs'
import { npmPackages, recentNode } from './setup/npm-packages.mjs'
import { rustToolchain } from './setup/rust.mjs'
import { installSystem, findChromium, hasVulkan } from './setup/system.mjs'
import { wasmTarget } from './setup/wasm-target.mjs'

/**
 * @typedef {object} Ready
 * @property {{ path: string[], about: string } | undefined} wasm directories that go first in PATH
 *   for a wasm build; undefined when it cannot be built here
 * @property {string | undefined} node a Node that runs .ts files
 * @property {string | undefined} chromium path of the browser for the browser tests
 * @property {boolean} vulkan whether a driver is installed, hardware or software
 * @property {string[]} skipped what could not be had, with its remedy
 */

/**
 * Sets up; `full` is everything that tests use, otherwise only what the native module needs.
 * @returns {Promise<Ready>}
 */
export async function setUp({ full = true } = {}) {
  const skipped = []
  rustToolchain()
  await npmPackages()
  const node = recentNode()
  if (!node) skipped.push('TypeScript tests (need Node 22.18 or newer: npm install node)')
  if (!full) return { wasm: undefined, node, chromium: undefined, vulkan: hasVulkan(), skipped }
  await installSystem(skipped)
  const wasm = await wasmBuild(skipped)
  return { wasm, node, chromium: findChromium(), vulkan: hasVulkan(), skipped }
}

/** The target and the two tools, or one line that says what is missing. */
async function wasmBuild(skipped) {
  const target = await wasmTarget()
  if (!target.path) {
    skipped.push(`wasm build (${target.remedy})`)
    return undefined
  }
  const cargo = await cargoTools()
  if (!cargo.path) {
    skipped.push(`wasm build (${cargo.remedy})`)
    return undefined
  }
  return { path: [...target.path, ...cargo.path], about: target.about }
}

/** Names what was skipped, last, so that it is not lost above a build's output. */
export function saySkipped(skipped) {
  if (skipped.length > 0) say(`skipped: ${skipped.join('; ')}`)
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(async () => {
    const ready = await setUp()
    say(`wasm: ${ready.wasm?.about ?? 'none'}`)
    say(`Node for .ts: ${ready.node ?? 'none'}`)
    say(`Chromium: ${ready.chromium ?? 'none'}; Vulkan driver: ${ready.vulkan ? 'found' : 'none'}`)
    if (ready.skipped.length === 0) say('everything is set up')
    saySkipped(ready.skipped)
  })
}
