import test, { type ExecutionContext } from 'ava'
import { join } from 'node:path'
import { progressLine } from '../ts/cli/terminal.ts'
import { LowbitError } from '../ts/error.ts'
import type { QuantizeOptions } from '../ts/options.ts'
import type { Progress } from '../ts/watching.ts'
import type { QuantizeReport } from '../ts/quantize/report.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { NAME, openApi } from './binding.ts'
import { failsWith, NOVELS, tempFolder } from './helpers.ts'

const api = await openApi()

/** A short calibration: what is shown does not need more. */
const SHORT = { samples: 8, length: 64, refine: 0, device: 'gpu' } as const

/** The plan on a GPU; none where there is no adapter, and then the test counts as skipped. */
async function planned(t: ExecutionContext): Promise<QuantizeReport | undefined> {
  try {
    return await api.quantize(NOVELS, { ...SHORT, out: memoryStore(), dryRun: true })
  } catch (error) {
    if (!(error instanceof LowbitError) || error.code !== 'no-device') throw error
    if (process.env['LOWBIT_GPU'] === 'require') throw error
    t.log(`skipped: ${t.title}: no GPU adapter`)
    return undefined
  }
}

/** Digests of the files that do not name the device. */
function digests({ files }: QuantizeReport): Record<string, string> {
  const kept = files.filter(({ name }) => name !== 'README.md')
  return Object.fromEntries(kept.map(({ name, sha256 }) => [name, sha256]))
}

/** Runs into a folder and is aborted once the second block is calibrated. */
async function aborted(out: string, options: Partial<QuantizeOptions>): Promise<void> {
  const stop = new AbortController()
  const onProgress = ({ layer = 0 }: Progress): void => {
    if (layer > 1) stop.abort()
  }
  await api.quantize(NOVELS, { ...SHORT, ...options, out, signal: stop.signal, onProgress })
}

/** Every layer is rounded as well as on the CPU. */
async function sameAsOnCpu(t: ExecutionContext, report: QuantizeReport): Promise<void> {
  const cpu = await api.quantize(NOVELS, { ...SHORT, device: 'cpu', out: memoryStore() })
  t.is(cpu.device, 'cpu')
  for (const [i, { name, hessianError = 0 }] of report.layers.entries()) {
    const other = cpu.layers[i]?.hessianError ?? Number.NaN
    t.true(Math.abs(hessianError / other - 1) < 0.02, `${name}: ${hessianError} for ${other}`)
  }
}

if (NAME === 'wasm') {
  test(`${NAME}: quantize on a GPU that cannot be waited for is refused with a way out`, async (t) => {
    const options = { ...SHORT, out: memoryStore() }
    const error = await failsWith(t, 'unsupported', () => api.quantize(NOVELS, options))
    t.regex(error.message, /use device "cpu"/)
  })
} else {
  test('quantize --device gpu: plan, progress, report and card say where it ran', async (t) => {
    const plan = await planned(t)
    if (!plan) return
    const adapter = plan.plan.adapter
    t.is(plan.device, 'gpu')
    t.truthy(adapter?.name)
    t.true((plan.plan.deviceMemoryBytes ?? 0) > 4 * 1024 ** 2)
    t.is(plan.plan.seconds, undefined, 'no forecast for a GPU that nobody has measured')
    const out = memoryStore()
    const stages = new Map<string, string | undefined>()
    const onProgress = ({ stage, device }: Progress): void => void stages.set(stage, device)
    const report = await api.quantize(NOVELS, { ...SHORT, out, onProgress })
    t.is(stages.get('calibrate'), 'gpu')
    t.is(stages.get('quantize'), undefined)
    t.is(report.device, 'gpu')
    t.deepEqual(report.plan.adapter, adapter)
    const card = new TextDecoder().decode(await out.read('README.md'))
    t.true(card.includes(`| calibrated on | gpu: ${adapter?.name}, ${adapter?.backend}`))
    t.is(
      report.notes.some((note) => note.includes('is a program')),
      adapter?.software === true,
    )
    await sameAsOnCpu(t, report)
  })

  test('quantize --device gpu: goes on after an abort, on the same device only', async (t) => {
    if (!(await planned(t))) return
    const whole = await api.quantize(NOVELS, { ...SHORT, out: memoryStore() })
    const out = join(await tempFolder(t), 'out')
    await failsWith(t, 'aborted', () => aborted(out, {}))
    const onCpu = { ...SHORT, device: 'cpu', out } as const
    const error = await failsWith(t, 'resume-mismatch', () => api.quantize(NOVELS, onCpu))
    t.regex(error.message, /device was "gpu: .* and is "cpu"/)
    const report = await api.quantize(NOVELS, { ...SHORT, out })
    t.true(report.resumed)
    t.deepEqual(digests(report), digests(whole))
  })

  test('quantize --device gpu: a method that looks at nothing says that it does not run there', async (t) => {
    if (!(await planned(t))) return
    const rtn = { out: memoryStore(), method: 'rtn', device: 'gpu', dryRun: true } as const
    const report = await api.quantize(NOVELS, rtn)
    t.is(report.device, 'cpu')
    t.true(report.notes.includes('device gpu does nothing here: only calibration runs there'))
  })
}

test(`${NAME}: quantize: auto is the CPU, and a progress line names the GPU`, async (t) => {
  const auto = { ...SHORT, device: 'auto', dryRun: true, out: memoryStore() } as const
  t.is((await api.quantize(NOVELS, auto)).device, 'cpu')
  const work = { stage: 'calibrate', layer: 3, done: 1, total: 4, seconds: 1 } as const
  t.regex(progressLine({ ...work, device: 'gpu' }), /^calibrate 3 gpu \[/)
})
