/** `lowbit convert`: from one format to another. */
import { type Command, Option } from 'commander'
import type { ConvertOptions } from '../options.ts'
import { type Context, integer, printJson, type Register, size, MODEL } from './command.ts'
import { doneText, planText } from './convert-text.ts'

/** Flags of the command, as commander names them. */
interface Flags extends Pick<
  ConvertOptions,
  | 'format'
  | 'scheme'
  | 'dtype'
  | 'scaleDtype'
  | 'observer'
  | 'exact'
  | 'threads'
  | 'isa'
  | 'fresh'
  | 'force'
  | 'dryRun'
> {
  readonly out: string
  readonly lora?: string
  readonly maxShardSize?: number
  readonly resume?: boolean
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit convert ./model-awq -o ./model-gptq --format gptq-v2
  lowbit convert ./model-hqq -o ./model-w4 --format compressed-tensors --scheme w4g64
  lowbit convert ./model-w8 -o ./model-float --format float --dtype bf16
  lowbit convert ./model -o ./merged --format float --lora ./adapter
  lowbit convert ./model-gptq -o ./model-awq --format awq --dry-run

A layer whose values the format holds as they are is exact, and the plan says so; others are rounded
to the --scheme that is asked for. To make a model of floats smaller, use lowbit quantize.`

/** Adds the command. */
export const registerConvert: Register = (program, context) => {
  const command = program
    .command('convert')
    .description('Take a checkpoint from one format to another, or merge a LoRA adapter')
    .argument('<model>', MODEL)
    .requiredOption('-o, --out <folder>', 'where the result goes')
    .requiredOption('--format <name>', 'a format of lowbit quantize, or float')
    .option('--scheme <scheme>', 'scheme of every quantized layer, as w4g128 (its own)')
  addValues(command)
  addRun(command)
  command.addHelpText('after', EXAMPLES)
  command.action((model: string, flags: Flags) => convert(context, model, flags))
}

function addValues(command: Command): void {
  command
    .optionsGroup('Values:')
    .option('--exact', 'refuse whatever changes a value')
    .option('--dtype <dtype>', 'type of the floats of format float: f32, f16 or bf16')
    .option('--scale-dtype <dtype>', 'data type of scales (as they are)')
    .addOption(
      new Option('--observer <name>', 'how ranges are found where values are rounded').choices([
        'minmax',
        'mse',
      ]),
    )
    .option('--lora <adapter>', 'merge a LoRA adapter, as PEFT saves it')
}

function addRun(command: Command): void {
  command
    .optionsGroup('The run:')
    .option('--dry-run', 'print the plan and write nothing')
    .option('--threads <n>', 'CPU threads; the result does not depend on it', integer(1))
    .option('--max-shard-size <size>', 'longest file, as in 5GB', size)
    .addOption(new Option('--isa <name>', 'instruction set').hideHelp())
    .addOption(new Option('--resume', 'go on with an unfinished run (default)').conflicts('fresh'))
    .option('--fresh', 'forget an unfinished run')
    .option('--force', 'replace a model that is already there')
    .option('--json', 'print the report as JSON')
}

async function convert(context: Context, model: string, flags: Flags): Promise<void> {
  const { json, resume: _, maxShardSize, ...same } = flags
  const api = await context.api()
  const report = await api.convert(model, {
    ...same,
    maxShardBytes: maxShardSize,
    signal: context.signal,
    onProgress: context.terminal.progress,
  })
  if (json) return printJson(context, report)
  for (const note of report.notes) context.terminal.note(note)
  context.terminal.out(report.dryRun ? planText(report) : doneText(report))
}
