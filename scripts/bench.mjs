// Builds the optimised package and measures it: kernels in Rust, everything else through the API.
//   node scripts/bench.mjs [FILTER…] [--record]     only benches whose name contains a FILTER
import { join } from 'node:path'
import { build } from './build.mjs'
import { hostTriple, libraryArgs } from './build/native.mjs'
import { Failure, main, must, root } from './run.mjs'
import { setUp } from './setup.mjs'

await main(async () => {
  const words = process.argv.slice(2)
  const filters = words.filter((word) => !word.startsWith('--'))
  const ready = await setUp({ full: false })
  if (!ready.node) throw new Failure('benches are .ts files and need Node 22.18; npm install node')
  await build(ready, { only: ['native', 'ts'] })
  await must('cargo', ['build', ...libraryArgs, '--example', 'bench_kernels'])
  const examples = join(root, 'target', hostTriple(), 'release', 'examples')
  await must(join(examples, 'bench_kernels'), filters)
  await must(ready.node, ['bench/main.ts', ...words])
})
