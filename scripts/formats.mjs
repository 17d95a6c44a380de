// Writes the table that `lowbit formats --markdown` prints into README.md, between its two marks.
//   node scripts/formats.mjs
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Failure, main, root } from './run.mjs'
import { recentNode } from './setup/npm-packages.mjs'

await main(() => {
  const readme = join(root, 'README.md')
  const before = readFileSync(readme, 'utf8')
  const command = [join(root, 'ts', 'cli', 'main.ts'), 'formats', '--markdown']
  const table = execFileSync(recentNode(), command, { encoding: 'utf8' })
  const place = /(<!-- formats:[^>]*-->\n\n)[\s\S]*?(\n<!-- formats end -->)/
  if (!place.test(before)) throw new Failure('README.md has no place for the table of formats')
  writeFileSync(
    readme,
    before.replace(place, (_, head, end) => head + table + end),
  )
})
