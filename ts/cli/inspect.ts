/** `lowbit inspect`: what a checkpoint holds. */
import { bytesText } from '../bytes.ts'
import { quote } from '../error.ts'
import type { Inspection } from '../inspect.ts'
import { type Context, printJson, type Register } from './command.ts'
import { tableText } from './terminal.ts'

const EXAMPLES = `
Examples:
  lowbit inspect ./model-w4
  lowbit inspect ./model.safetensors --json`

/** Adds the command. */
export const registerInspect: Register = (program, context) => {
  program
    .command('inspect')
    .summary('show what a checkpoint holds')
    .description('Reads headers only: format, schemes, bits per weight, architecture, tensors.')
    .argument('<model>', 'folder, address, safetensors or GGUF file')
    .option('--json', 'print everything as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: { readonly json?: boolean }) => inspect(context, model, flags))
}

async function inspect(
  context: Context,
  model: string,
  flags: { readonly json?: boolean },
): Promise<void> {
  const api = await context.api()
  const inspection = await api.inspect(model)
  if (flags.json) printJson(context, inspection)
  else context.terminal.out(inspectionText(inspection))
}

function inspectionText(inspection: Inspection): string {
  const { schemes, metadata, tensors, files } = inspection
  const facts: (readonly string[])[] = [
    ['place', inspection.place],
    ['format', inspection.format],
    ...(inspection.problem === null ? [] : [['cannot run', shown(inspection.problem)]]),
    ['architecture', inspection.architecture ?? 'unknown: there is no config.json'],
    ['parameters', inspection.parameters.toLocaleString('en')],
    ['size', `${bytesText(inspection.bytes)} in ${files.length} files`],
    ['bits per weight', inspection.bitsPerWeight.toFixed(3)],
    ...Object.entries(schemes).map(([name, count]) => ['scheme', `${name} in ${count} matrices`]),
    ...Object.entries(metadata).map(([key, value]) => ['metadata', shown(`${key}: ${value}`)]),
  ]
  const list = tensors.map((tensor) => [
    shown(tensor.name),
    tensor.dtype,
    `[${tensor.shape.join(', ')}]`,
    bytesText(tensor.bytes),
    tensor.scheme ?? '',
  ])
  return `${tableText(facts)}\n${tableText([['tensor', 'dtype', 'shape', 'size', 'scheme'], ...list])}`
}

/** A stranger's text, without what would move the cursor or turn the writing round. */
function shown(text: string): string {
  return quote(text).slice(1, -1)
}
