/** `lowbit doctor`: what this machine can do, and what would help. */
import { statfs } from 'node:fs/promises'
import { availableParallelism, freemem, totalmem } from 'node:os'
import type { Catalog, Lowbit } from '../api.ts'
import { bytesText } from '../bytes.ts'
import { errorFrom } from '../error.ts'
import { endpointOf } from '../hub/access.ts'
import { hubSettings } from '../hub/environment.ts'
import { type Context, printJson, type Register } from './command.ts'
import { probeModel } from './probe.ts'
import { tableText } from './terminal.ts'

/** One thing that was looked at. */
interface Finding {
  readonly what: string
  readonly found: string
  /** What would help; absent when all is well. */
  readonly advice?: string
}

/** Free memory and disk below which large models are out of reach. */
const LITTLE_MEMORY = 4e9
const LITTLE_DISK = 10e9

/** Oldest Node that this package supports. */
const NODE_MAJOR_MIN = 20

/** Adds the command. */
export const registerDoctor: Register = (program, context) => {
  program
    .command('doctor')
    .summary('show what this machine can do')
    .description(
      'Looks at Node, the native module, CPU, GPU, memory, disk and the settings of the hub.',
    )
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExamples:\n  lowbit doctor')
    .action((flags: { readonly json?: boolean }) => doctor(context, flags))
}

async function doctor(context: Context, flags: { readonly json?: boolean }): Promise<void> {
  const findings = [node(), ...(await binding(context)), memory(), await disk(), await hub()]
  if (flags.json) return printJson(context, { findings })
  context.terminal.out(tableText(findings.map(({ what, found }) => [what, found])))
  for (const { what, advice } of findings) {
    if (advice !== undefined) context.terminal.out(`${what}: ${advice}\n`)
  }
}

function node(): Finding {
  const { version, platform, arch } = process
  const old = Number(version.slice(1).split('.')[0]) < NODE_MAJOR_MIN
  const found = `${version} on ${platform} ${arch}`
  return { what: 'node', found, ...(old ? { advice: `use Node ${NODE_MAJOR_MIN} or newer` } : {}) }
}

async function binding(context: Context): Promise<readonly Finding[]> {
  let api: Lowbit
  let catalog: Catalog
  try {
    api = await context.api()
    catalog = await api.catalog()
  } catch (thrown) {
    const { message } = errorFrom(thrown)
    return [{ what: 'lowbit', found: message, advice: 'install again, or run npm run build' }]
  }
  const { isa, isas, arch } = catalog.host
  return [
    { what: 'lowbit', found: catalog.version },
    { what: 'cpu', found: `${arch}, ${isa} (of ${isas.join(', ')})`, ...slow(isa) },
    { what: 'threads', found: `${availableParallelism()}` },
    await gpu(api),
  ]
}

function slow(isa: string): Pick<Finding, 'advice'> {
  return isa === 'scalar'
    ? { advice: 'no vector instructions were found; expect it to be slow' }
    : {}
}

/** Loads and runs a model of zeros: an adapter that is listed is not yet one that works. */
async function gpu(api: Lowbit): Promise<Finding> {
  try {
    const model = await api.load(probeModel(), { device: 'gpu' })
    const { name = 'unknown', backend = 'unknown', software = false } = model.info.gpu ?? {}
    await model.logits(Uint32Array.of(1))
    await model.dispose()
    const advice = 'it is a program, not a chip; device auto takes the CPU'
    return { what: 'gpu', found: `${name}, ${backend}`, ...(software ? { advice } : {}) }
  } catch (thrown) {
    const { code, message } = errorFrom(thrown)
    const advice = 'a Vulkan, Metal or DirectX 12 driver would add one'
    if (code === 'no-device') return { what: 'gpu', found: 'none', advice }
    return { what: 'gpu', found: `fails: ${message}`, advice: 'use device cpu' }
  }
}

function memory(): Finding {
  const found = `${bytesText(freemem())} free of ${bytesText(totalmem())}`
  const advice = 'a model needs about its size on disk, and quantizing one block of it'
  return { what: 'memory', found, ...(freemem() < LITTLE_MEMORY ? { advice } : {}) }
}

async function disk(): Promise<Finding> {
  const folder = process.cwd()
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  const found = `${bytesText(free)} free in ${folder}`
  const advice = 'quantizing needs the size of the result and of the activations between blocks'
  return { what: 'disk', found, ...(free < LITTLE_DISK ? { advice } : {}) }
}

/** Where models of the hub come from and go to; nothing is asked of it, and no token is shown. */
async function hub(): Promise<Finding> {
  const settings = await hubSettings()
  const token = settings.token === undefined ? 'no token' : 'with a token'
  const where = settings.offline ? 'offline' : endpointOf(settings)
  return { what: 'hub', found: `${where}, ${token}, cache in ${settings.cache}` }
}
