/** `lowbit inspect`: what a checkpoint holds. */
import { bytesText } from '../bytes.ts'
import { quote } from '../error.ts'
import type { Inspection, ModelSizes } from '../inspect.ts'
import { type Context, printJson, type Register, MODEL } from './command.ts'
import { tableText } from './terminal.ts'

const EXAMPLES = `
Examples:
  lowbit inspect ./model-w4
  lowbit inspect owner/name                        # reads headers where they are, downloads nothing
  lowbit inspect ./model.safetensors --tensors
  lowbit inspect https://example.org/model/ --json`

/** Metadata that is shown; all of it is in the JSON. */
const METADATA_MAX = 40

interface Flags {
  readonly json?: boolean
  readonly tensors?: boolean
}

/** Adds the command. */
export const registerInspect: Register = (program, context) => {
  program
    .command('inspect')
    .summary('show what a checkpoint holds and which engines load it')
    .description(
      'Reads headers only: format, schemes, bits per weight, architecture, metadata, engines.',
    )
    .argument('<model>', MODEL)
    .option('--tensors', 'list every tensor')
    .option('--json', 'print everything as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: Flags) => inspect(context, model, flags))
}

async function inspect(context: Context, model: string, flags: Flags): Promise<void> {
  const api = await context.api()
  const inspection = await api.inspect(model)
  if (flags.json) return printJson(context, inspection)
  const parts = [factsText(inspection), kindsText(inspection), enginesText(inspection)]
  if (flags.tensors) parts.push(tensorsText(inspection))
  context.terminal.out(parts.join('\n'))
}

function factsText(inspection: Inspection): string {
  const { metadata, files, sizes } = inspection
  const entries = Object.entries(metadata)
  const rest = entries.length - METADATA_MAX
  return tableText([
    ['place', inspection.place],
    ['format', shown(inspection.format)],
    ...(inspection.problem === null ? [] : [['cannot run', shown(inspection.problem)]]),
    ...(inspection.kvCache === null ? [] : [['KV cache', cacheText(inspection.kvCache)]]),
    ['architecture', architectureText(inspection)],
    ...(sizes ? [['model', sizesText(sizes)]] : []),
    ['parameters', inspection.parameters.toLocaleString('en')],
    ['size', `${bytesText(inspection.bytes)} in ${files.length} ${plural('file', files.length)}`],
    ['bits per weight', inspection.bitsPerWeight.toFixed(3)],
    ...entries
      .slice(0, METADATA_MAX)
      .map(([key, value]) => ['metadata', shown(`${key}: ${value}`)]),
    ...(rest > 0 ? [['metadata', `and ${rest} more, with --json`]] : []),
  ])
}

/** `fp8-head` in words. */
function cacheText(scheme: string): string {
  const [element = '', head] = scheme.split('-')
  return `${element}, ${head === undefined ? 'one scale for all heads' : 'a scale for each head'}`
}

function architectureText({ architecture, modelType, sizes }: Inspection): string {
  if (sizes === null) return 'unknown: there is no config.json'
  return shown(architecture ?? modelType ?? 'unknown: config.json does not say')
}

function sizesText(sizes: ModelSizes): string {
  const { layers, hidden, heads, keyValueHeads, experts, vocabulary, context } = sizes
  const parts: readonly (readonly [string, number | null, string])[] = [
    ['', layers, ' layers'],
    ['hidden size ', hidden, ''],
    ['', heads, ' heads'],
    ['', keyValueHeads, ' key-value heads'],
    ['', experts, ' experts'],
    ['vocabulary ', vocabulary, ''],
    ['context ', context, ''],
  ]
  const said = parts.filter(([, value]) => value !== null)
  return said
    .map(([before, value, after]) => before + value?.toLocaleString('en') + after)
    .join(', ')
}

function kindsText({ kinds }: Inspection): string {
  const rows = kinds.map(({ name, tensors, parameters, bytes }) => [
    shown(name),
    tensors,
    parameters.toLocaleString('en').padStart(10),
    bytesText(bytes),
    parameters > 0 ? ((bytes * 8) / parameters).toFixed(3) : '',
  ])
  return tableText([['kind', 'tensors', 'parameters', 'size', 'bits per weight'], ...rows])
}

function enginesText({ engines }: Inspection): string {
  const rows = engines.map(({ engine, loads, note = '' }) => [engine, loads, shown(note)])
  return tableText([['engine', 'loads it', ''], ...rows])
}

function tensorsText({ tensors }: Inspection): string {
  const rows = tensors.map((tensor) => [
    shown(tensor.name),
    tensor.dtype,
    `[${tensor.shape.join(', ')}]`,
    bytesText(tensor.bytes),
    tensor.scheme ?? '',
  ])
  return tableText([['tensor', 'dtype', 'shape', 'size', 'scheme'], ...rows])
}

function plural(word: string, count: number): string {
  return count === 1 ? word : `${word}s`
}

/** A stranger's text, without what would move the cursor or turn the writing round. */
function shown(text: string): string {
  return quote(text)
    .slice(1, -1)
    .replaceAll(String.raw`\"`, '"')
}
