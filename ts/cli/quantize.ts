/** `lowbit quantize`: make a checkpoint smaller. */
import { Option } from 'commander'
import { bytesText } from '../bytes.ts'
import type { QuantizeOptions } from '../options.ts'
import type { QuantizeReport } from '../quantize/report.ts'
import { type Context, integer, number, printJson, type Register, size } from './command.ts'
import { tableText, timeText } from './terminal.ts'

/** Flags of the command, as commander names them. */
interface Flags extends Pick<
  QuantizeOptions,
  | 'method'
  | 'scheme'
  | 'format'
  | 'samples'
  | 'length'
  | 'observer'
  | 'actOrder'
  | 'damp'
  | 'block'
  | 'scaleDtype'
  | 'seed'
  | 'device'
  | 'compute'
  | 'threads'
  | 'isa'
  | 'fresh'
  | 'force'
  | 'dryRun'
> {
  readonly out: string
  readonly calibration?: readonly string[]
  readonly ignore?: readonly string[]
  readonly layers?: readonly string[]
  readonly maxShardSize?: number
  readonly resume?: boolean
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit quantize ./model -o ./model-w4
  lowbit quantize ./model -o ./model-w8 --method rtn --scheme w8
  lowbit quantize ./model -o ./mixed --layers 're:.*down_proj=w8g128' --dry-run

An unfinished run is gone on with when the same command is given again.`

/** Adds the command. */
export const registerQuantize: Register = (program, context) => {
  program
    .command('quantize')
    .summary('make a checkpoint smaller')
    .description(
      'Quantizes a checkpoint. With nothing but -o: GPTQ, 4 bits in groups of 128, symmetric, in ' +
        'compressed-tensors, calibrated on a public-domain text that ships with the package.',
    )
    .argument('<model>', 'folder, address or safetensors file')
    .requiredOption('-o, --out <folder>', 'folder to write')
    .option('--method <name>', 'rounding method (gptq)')
    .option('--scheme <name>', 'bits, group and symmetry, as in w4g128-asym (w4g128)')
    .option('--format <name>', 'file format (compressed-tensors)')
    .option(
      '--calibration <sources...>',
      'what to calibrate on: a set of lowbit calibrate, or text',
    )
    .option('--samples <n>', 'calibration samples (128)', integer(1))
    .option('--length <n>', 'tokens of a sample (512)', integer(2))
    .option('--ignore <patterns...>', 'modules to leave alone, by name or re:expression')
    .option('--layers <pattern=scheme...>', 'schemes for some modules')
    .addOption(new Option('--observer <name>', 'how ranges are found').choices(['minmax', 'mse']))
    .addOption(
      new Option('--act-order <order>', 'order of columns in GPTQ').choices([
        'static',
        'group',
        'off',
      ]),
    )
    .option('--damp <share>', 'damping in GPTQ (0.01)', number(0, 1))
    .option('--block <n>', 'columns between updates in GPTQ (128)', integer(1))
    .option('--scale-dtype <dtype>', 'data type of scales')
    .addOption(new Option('--device <device>', 'where to run').choices(['auto', 'cpu', 'gpu']))
    .addOption(
      new Option('--compute <mode>', 'calibration is in f32').choices(['auto', 'f32', 'int8']),
    )
    .option('--threads <n>', 'CPU threads; the result does not depend on it', integer(1))
    .option('--seed <n>', 'seed of what is random', integer(0))
    .option('--max-shard-size <size>', 'longest file, as in 5GB', size)
    .addOption(new Option('--isa <name>', 'instruction set').hideHelp())
    .addOption(new Option('--resume', 'go on with an unfinished run (default)').conflicts('fresh'))
    .option('--fresh', 'forget an unfinished run')
    .option('--force', 'replace a model that is already there')
    .option('--dry-run', 'print the plan and write nothing')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: Flags) => quantize(context, model, flags))
}

async function quantize(context: Context, model: string, flags: Flags): Promise<void> {
  const { json, resume: _, maxShardSize, layers, ...same } = flags
  const api = await context.api()
  const report = await api.quantize(model, {
    ...same,
    ...(layers ? { layers: layers.map(pairOf) } : {}),
    maxShardBytes: maxShardSize,
    signal: context.signal,
    onProgress: context.terminal.progress,
  })
  if (json) return printJson(context, report)
  for (const note of report.notes) context.terminal.note(note)
  context.terminal.out(report.dryRun ? planText(report) : doneText(report))
}

/** `re:.*down_proj=w8g128`: an expression may hold an equals sign, a scheme cannot. */
function pairOf(text: string): readonly [string, string] {
  const at = text.lastIndexOf('=')
  return [text.slice(0, Math.max(at, 0)), text.slice(at + 1)]
}

function planText({ plan, sourceBytes }: QuantizeReport): string {
  const layers = plan.layers.map(({ name, rows, cols, scheme, method }) => [
    name,
    `${rows} × ${cols}`,
    scheme,
    method,
  ])
  return tableText([
    ['layer', 'shape', 'scheme', 'method'],
    ...layers,
    ...plan.ignored.map((name) => [name, '', 'as it is']),
    [],
    ['output', `${bytesText(plan.outputBytes)}, from ${bytesText(sourceBytes)}`],
    ['bits per weight', plan.bitsPerWeight.toFixed(3)],
    ['memory at most', bytesText(plan.memoryPeakBytes)],
    ['disk meanwhile', bytesText(plan.scratchBytes)],
  ])
}

function doneText(report: QuantizeReport): string {
  const { layers, files, out, bytes, sourceBytes, bitsPerWeight, seconds, resumed } = report
  const fallbacks = layers.filter(({ fallback }) => fallback !== undefined && fallback !== null)
  const rows: (readonly string[])[] = [
    ['written', out],
    ['method', `${report.method} ${report.scheme}, ${report.format}`],
    ['size', `${bytesText(bytes)}, from ${bytesText(sourceBytes)}`],
    ['bits per weight', bitsPerWeight.toFixed(3)],
    ['layers', `${layers.length}`],
    ['files', `${files.length}, read back and checked`],
    ['time', timeText(seconds) + (resumed ? ', after going on with an unfinished run' : '')],
  ]
  for (const { name, fallback } of fallbacks) rows.push(['fallback', `${name}: ${fallback}`])
  return tableText(rows)
}
