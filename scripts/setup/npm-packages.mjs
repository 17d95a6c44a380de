// npm packages of the lock file, and the Node that runs .ts tests.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ask, must, root, say, systemPath } from '../run.mjs'

const modules = join(root, 'node_modules')
const stamp = join(modules, '.lowbit-lock')

/** Installs exactly the lock file's packages, once for each state of it. */
export async function npmPackages() {
  const lock = readFileSync(join(root, 'package-lock.json'))
  const wanted =
    createHash('sha256').update(lock).digest('hex') + ` ${process.platform}-${process.arch}`
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return
  say(
    'installing the npm packages of package-lock.json (compilers, linters, test runner) in node_modules',
  )
  // Not `npm ci`: it refuses a lock file in which the registry at hand had no package for another
  // platform. `--no-save` keeps the locked versions and hashes and leaves the file alone.
  const args = ['install', '--no-save', '--no-fund', '--no-audit', '--loglevel=error']
  await must('npm', args, { env: { PATH: systemPath } })
  writeFileSync(stamp, wanted)
}

/** A Node that strips types (22.18 and later): the npm package's, or the one running this. */
export function recentNode() {
  const packaged = join(modules, 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  return [packaged, process.execPath].find((node) => {
    const version = /^v(\d+)\.(\d+)/.exec(ask(node, ['--version']) ?? '')
    return version && Number(version[1]) * 100 + Number(version[2]) >= 2218
  })
}
