/**
 * Writes lowbit's f32 logits of a checkpoint for the prompts of a fixture, for scripts here to
 * compare with another tool's: `node logits.ts CHECKPOINT OUT [FIXTURE [KV_CACHE]]`, where the last
 * rounds keys and values as `fp8` or `int8`.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { load } from '../../ts/index.node.ts'
import { type Planned, ROOT, safetensors } from '../helpers.ts'

const FIXTURE = join(ROOT, 'test/fixtures/novels-4m-reference.safetensors')

interface Entry {
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

/** Token ids by prompt: every `<prompt>.tokens` of the fixture. */
async function prompts(fixture: string): Promise<Map<string, BigInt64Array>> {
  const bytes = await readFile(fixture)
  const start = 8 + Number(bytes.readBigUInt64LE())
  const header: Record<string, Entry> = JSON.parse(bytes.toString('utf8', 8, start))
  const found = Object.entries(header).filter(([name]) => /(^|\.)tokens$/.test(name))
  return new Map(
    found.map(
      ([
        name,
        {
          data_offsets: [begin, end],
        },
      ]) => {
        const data = Uint8Array.from(bytes.subarray(start + begin, start + end))
        return [name.replace(/\.?tokens$/, ''), new BigInt64Array(data.buffer)]
      },
    ),
  )
}

async function main(): Promise<void> {
  const [checkpoint, out, fixture = FIXTURE, cache] = process.argv.slice(2)
  if (checkpoint === undefined || out === undefined)
    throw new Error('CHECKPOINT and OUT are missing')
  const kvCache = cache === 'fp8' || cache === 'int8' ? cache : undefined
  const model = await load(checkpoint, { device: 'cpu', compute: 'f32', kvCache })
  const tensors: Record<string, Planned> = {}
  for (const [name, ids] of await prompts(fixture)) {
    const logits = await model.logits(Uint32Array.from(ids, Number))
    const shape = [ids.length, logits.length / ids.length]
    const data = new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength)
    tensors[`${name}.tokens`] = {
      dtype: 'I64',
      shape: [ids.length],
      data: new Uint8Array(ids.buffer),
    }
    tensors[`${name}.logits`] = { dtype: 'F32', shape, data }
  }
  await model.dispose()
  await writeFile(out, safetensors(tensors))
}

await main()
