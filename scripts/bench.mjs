// Builds the optimised package and measures it: kernels in Rust, everything else through the API.
//   node scripts/bench.mjs [FILTER]      names of benches that contain FILTER
import { build } from './build.mjs'
import { Failure, main, must, root } from './run.mjs'
import { setUp } from './setup.mjs'
import { hostTriple, testPackage } from './build/native.mjs'

await main(async () => {
  const filter = process.argv.slice(2)
  const ready = await setUp({ full: false })
  if (!ready.node)
    throw new Failure('benches are .ts files and need Node 22.18 or newer; npm install node')
  await build(ready, { only: ['native', 'ts'] })
  const example = [
    'run',
    '--quiet',
    '--release',
    '--target',
    hostTriple(),
    ...testPackage,
    '--example',
    'bench_kernels',
  ]
  await must('cargo', [...example, '--', ...filter], { cwd: root })
  await must(ready.node, ['bench/main.ts', ...filter])
})
