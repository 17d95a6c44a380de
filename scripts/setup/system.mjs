// What only the system's package manager can give: a Vulkan driver, Chromium, Debian's Rust.
import { existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { ask, run, say, systemPath } from '../run.mjs'

/** Whether this is a CI machine, by the variable that all of them set. */
export function onCi() {
  return !['', '0', 'false'].includes(process.env.CI ?? '')
}

/** Whether set-up may call apt itself: root on a CI machine, or by LOWBIT_SETUP=system. */
export function mayInstall() {
  return (process.env.LOWBIT_SETUP === 'system' || onCi()) && process.getuid?.() === 0 && hasApt()
}

/** Installs what is missing of the Vulkan driver and Chromium, or names the command that would. */
export async function installSystem(skipped) {
  if (process.platform !== 'linux') return
  const missing = []
  if (!hasVulkan()) {
    missing.push({
      what: 'GPU tests',
      why: 'a software Vulkan driver for the GPU tests',
      packages: ['mesa-vulkan-drivers', 'libvulkan1'],
    })
  }
  if (!findChromium()) {
    missing.push({
      what: 'Chromium tests',
      why: 'Chromium for the browser tests',
      packages: ['chromium'],
    })
  }
  for (const { what, why, packages } of missing) {
    if (await aptInstall(packages, why)) continue
    skipped.push(`${what} (${remedy(packages)})`)
  }
}

/** The command that a person can run instead. */
export function remedy(packages) {
  return hasApt() ? `sudo apt-get install -y ${packages.join(' ')}` : `needs ${packages.join(', ')}`
}

let updated = false

/** Installs Debian packages; false when that is not allowed, not possible or fails. */
export async function aptInstall(packages, why) {
  if (!mayInstall()) return false
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  if (!updated) {
    updated = true
    say('refreshing the package lists of apt')
    await run('apt-get', ['update', '-qq'], { quiet: true, env, timeout: 300_000 })
  }
  if (!ask('apt-cache', ['show', '--no-all-versions', ...packages])) {
    say(`apt has no ${packages.join(' ')}`)
    return false
  }
  say(`installing ${packages.join(' ')} through apt: ${why}`)
  const args = ['install', '-y', '-qq', '--no-install-recommends', ...packages]
  return (await run('apt-get', args, { quiet: true, env, timeout: 900_000 })).code === 0
}

/** Path of a Chromium or Chrome; LOWBIT_CHROMIUM overrides. */
export function findChromium() {
  if (process.env.LOWBIT_CHROMIUM) return process.env.LOWBIT_CHROMIUM
  const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome']
  const places = systemPath.split(delimiter).flatMap((dir) => names.map((name) => join(dir, name)))
  places.push('/Applications/Google Chrome.app/Contents/MacOS/Google Chrome')
  return places.find((path) => existsSync(path))
}

/** Whether wgpu can expect a driver: Metal and Direct3D come with the system, Vulkan does not. */
export function hasVulkan() {
  if (process.platform !== 'linux') return true
  const libraries = ask('/sbin/ldconfig', ['-p']) ?? ''
  const drivers = ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d']
  const found = drivers.some((dir) => existsSync(dir) && readdirSync(dir).length > 0)
  return libraries.includes('libvulkan.so.1') && (found || Boolean(process.env.VK_ICD_FILENAMES))
}

function hasApt() {
  return existsSync('/usr/bin/apt-get')
}
