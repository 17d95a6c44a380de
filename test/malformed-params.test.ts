/** Case 24: quantized checkpoints whose numbers cannot be right are refused before a kernel runs. */
import test, { type ExecutionContext } from 'ava'
import { join } from 'node:path'
import type { ErrorCode } from '../ts/error.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { openApi } from './binding.ts'
import { failsWith, ROOT } from './helpers.ts'

const api = await openApi()

type Files = ReadonlyMap<string, Uint8Array>

/** The one matrix that is changed. */
const MATRIX = 'model.layers.0.self_attn.q_proj'

/** What is written at the start of which tensor, in how many bytes, and what that gives. */
type Poke = readonly [
  tensor: string,
  bytes: 2 | 4 | 8,
  value: number,
  code: ErrorCode,
  what: RegExp,
]

/** Which words of config.json are replaced, and what that gives. */
type Edit = readonly [from: RegExp, to: string, code: ErrorCode, what: RegExp]

interface Format {
  readonly format: string
  readonly scheme: string
  readonly pokes: readonly Poke[]
  readonly edits: readonly Edit[]
}

const GROUP: Edit = [/"group_size": ?\d+/, '"group_size": 48', 'scheme', /64 columns .* group 48/]

const FORMATS: readonly Format[] = [
  {
    format: 'gptq',
    scheme: 'w4g32',
    pokes: [
      ['g_idx', 4, 99, 'qparam', /group 99 of 2/],
      ['g_idx', 4, -1, 'qparam', /group -1 of 2/],
      ['g_idx', 4, 1, 'qparam', /group 0 has 31 columns, expected 32/],
      ['scales', 2, 0x7fc0, 'qparam', /scale 0 is NaN/],
      ['scales', 2, 0x7f80, 'qparam', /scale 0 is inf/],
    ],
    edits: [
      GROUP,
      [/"bits": ?\d+/, '"bits": 8', 'qparam', /expected \[/],
      [/"bits": ?\d+/, '"bits": 7', 'unsupported', /bits 7/],
    ],
  },
  {
    format: 'compressed-tensors',
    scheme: 'w4g32-asym',
    pokes: [
      ['weight_scale', 2, 0, 'qparam', /scale 0 is 0/],
      ['weight_scale', 2, 0x7fc0, 'qparam', /scale 0 is NaN/],
      ['weight_scale', 2, 0xff80, 'qparam', /scale 0 is -inf/],
      ['weight_shape', 8, 99, 'qparam', /expected \[99, 8\]/],
      ['weight_shape', 8, -1, 'qparam', /two sizes/],
    ],
    edits: [GROUP, [/"group_size": ?\d+/, '"group_size": 0', 'config', /group_size 0/]],
  },
  {
    format: 'bitsandbytes',
    scheme: 'nf4',
    pokes: [['weight.absmax', 4, 0x7fc0_0000, 'qparam', /scale 0 is NaN/]],
    edits: [],
  },
]

for (const { format, scheme, pokes, edits } of FORMATS) {
  test(`${format}: numbers that cannot be right are refused at load`, async (t) => {
    const out = memoryStore()
    await api.quantize(join(ROOT, 'models/tiny-qwen3'), { out, method: 'rtn', format, scheme })
    const intact = await api.load(memoryStore(out.files), { device: 'cpu' })
    await intact.dispose()
    for (const [tensor, size, value, code, what] of pokes) {
      const poked = write(out.files, `${MATRIX}.${tensor}`, size, value)
      await refused(t, new Map([...out.files, ['model.safetensors', poked]]), code, what)
    }
    const config = new TextDecoder().decode(out.files.get('config.json'))
    for (const [from, to, code, what] of edits) {
      const changed = config.replaceAll(new RegExp(from, 'g'), to)
      t.not(changed, config)
      const text = new TextEncoder().encode(changed)
      await refused(t, new Map([...out.files, ['config.json', text]]), code, what)
    }
  })
}

async function refused(
  t: ExecutionContext,
  files: Files,
  code: ErrorCode,
  what: RegExp,
): Promise<void> {
  const error = await failsWith(t, code, () => api.load(memoryStore(files), { device: 'cpu' }))
  t.regex(error.message, what)
}

/** The file of tensors with a number at the start of one of them. */
function write(files: Files, tensor: string, size: 2 | 4 | 8, value: number): Uint8Array {
  const file = files.get('model.safetensors')?.slice() ?? new Uint8Array(8)
  const view = new DataView(file.buffer)
  const length = Number(view.getBigUint64(0, true))
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(
    new TextDecoder().decode(file.subarray(8, 8 + length)),
  )
  const [begin] = header[tensor]?.data_offsets ?? [Infinity]
  const at = 8 + length + begin
  if (size === 2) view.setUint16(at, value, true)
  else if (size === 4) view.setInt32(at, value, true)
  else view.setBigInt64(at, BigInt(value), true)
  return file
}
