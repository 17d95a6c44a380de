// The JavaScript that is shipped: dist/, one file for each of ts/.
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Failure, root, run } from '../run.mjs'
import { filesUnder, once } from './stamp.mjs'

/** Checks and emits ts/. */
export function buildTs() {
  return once({
    name: 'ts',
    inputs: ['ts', 'types', 'tsconfig.json', 'package-lock.json', 'scripts/build/ts.mjs'],
    facts: [],
    outputs: () => filesUnder('dist'),
    build: tsc,
  })
}

async function tsc() {
  rmSync(join(root, 'dist'), { recursive: true, force: true })
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  if (!existsSync(compiler)) throw new Failure('TypeScript is not installed; run npm run setup')
  const { code } = await run(process.execPath, [compiler])
  if (code !== 0) throw new Failure('tsc found errors in ts/, see above')
  await writeSchema()
}

/** The schema of recipes as a file, for editors. */
async function writeSchema() {
  const { SCHEMA } = await import(pathToFileURL(join(root, 'dist/recipe/schema.js')).href)
  const text = `${JSON.stringify(SCHEMA, undefined, 2)}\n`
  writeFileSync(join(root, 'dist', 'recipe.schema.json'), text)
}
