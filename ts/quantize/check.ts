/** Reads an output back: the same reader as for a stranger's checkpoint, and every byte once. */
import type { Binding } from '../binding.ts'
import { openCheckpoint, requestText } from '../checkpoint.ts'
import { errorFrom, LowbitError, throwIfAborted } from '../error.ts'
import type { Host } from '../host.ts'
import type { Meter } from '../progress.ts'
import type { Store } from '../store/store.ts'
import type { CorePlan, CoreReport, WrittenFile } from './report.ts'

/** Bytes that are read at a time. */
const CHUNK = 8 << 20

/** What to check, and against what. */
export interface Checking {
  readonly binding: Binding
  readonly host: Host
  readonly store: Store
  readonly plan: Pick<CorePlan, 'outputs'>
  readonly core: Pick<CoreReport, 'files'>
  readonly signal: AbortSignal | undefined
  readonly report: Meter
}

/** Checks headers, index, lengths and digests, and that the result is a model that loads. */
export async function checkOutput(checking: Checking): Promise<readonly WrittenFile[]> {
  const { binding, store, plan, core } = checking
  const files = await digests(checking)
  const byName = new Map(files.map((file) => [file.name, file]))
  for (const { file, bytes } of plan.outputs) {
    const found = byName.get(file)?.bytes
    if (found !== bytes) throw corrupt(store, file, `has ${found ?? 'no'} of ${bytes} bytes`)
  }
  for (const { name, sha256 } of core.files ?? []) {
    if (byName.get(name)?.sha256 !== sha256) throw corrupt(store, name, 'has another digest')
  }
  await checkModel(binding, store)
  return files
}

async function checkModel(binding: Binding, store: Store): Promise<void> {
  const checkpoint = await openCheckpoint(binding, { store })
  try {
    await binding.close(await binding.modelOpen(requestText(checkpoint, { device: 'cpu' })))
  } catch (thrown) {
    const error = errorFrom(thrown, 'internal', store.place)
    // What is not run here is written all the same.
    if (error.code !== 'unknown-architecture') throw error
  }
}

async function digests(checking: Checking): Promise<readonly WrittenFile[]> {
  const { store, host, signal, report } = checking
  const names = await store.list()
  const sizes = await Promise.all(names.map((name) => store.size(name)))
  const total = sizes.reduce((sum, bytes) => sum + bytes, 0)
  const files: WrittenFile[] = []
  let done = 0
  for (const [i, name] of names.entries()) {
    const bytes = sizes[i] ?? 0
    const hash = host.sha256()
    for (let offset = 0; offset < bytes; offset += CHUNK) {
      throwIfAborted(signal)
      const length = Math.min(CHUNK, bytes - offset)
      hash.update(await store.read(name, { offset, length }))
      done += length
      report({ stage: 'check', done, total })
    }
    files.push({ name, bytes, sha256: hash.hex() })
  }
  return files
}

function corrupt(store: Store, file: string, what: string): LowbitError {
  return new LowbitError('resume-corrupt', `The written file ${what}`, {
    place: `${store.place}/${file}`,
    remedy: 'run again with --fresh; if it happens twice, test the disk',
  })
}
