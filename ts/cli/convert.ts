/** `lowbit convert`: from one format to another. */
import { type Command, Option } from 'commander'
import { MIXES } from '../convert/gguf.ts'
import type { ConvertOptions } from '../options.ts'
import {
  addJobFlags,
  type Context,
  pairsOf,
  printReport,
  type Register,
  MODEL,
  watching,
} from './command.ts'
import { doneText, planText } from './convert-text.ts'

/** Flags that are for GGUF only. */
export interface GgufFlags extends Pick<ConvertOptions, 'imatrix' | 'pure' | 'tokenizerPre'> {
  readonly tensorType?: readonly string[] | undefined
  readonly outputTensorType?: string | undefined
  readonly tokenEmbeddingType?: string | undefined
}

/** Flags of the command, as commander names them. */
interface Flags
  extends
    GgufFlags,
    Pick<
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
  lowbit convert ./model -o model.gguf --scheme Q4_K_M --imatrix model.imatrix.gguf
  lowbit convert ./model -o model.gguf --scheme Q4_K_S --tensor-type 'ffn_down=Q6_K'
  lowbit convert ./model-gptq -o ./model-awq --format awq --dry-run

A layer whose values the format holds as they are is exact, and the plan says so; others are rounded
to the --scheme that is asked for. To make a model of floats smaller, use lowbit quantize.
Schemes of GGUF: ${MIXES.join(' ')}.`

/** Adds the command. */
export const registerConvert: Register = (program, context) => {
  const command = program
    .command('convert')
    .summary('take a checkpoint to another format, or merge a LoRA adapter')
    .description(
      'Takes a checkpoint from one format to another, or merges a LoRA adapter on the way.',
    )
    .argument('<model>', MODEL)
    .requiredOption('-o, --out <folder>', 'where the result goes, or a .gguf file')
    .option('--format <name>', 'a format of lowbit quantize, float or gguf')
    .option('--scheme <scheme>', 'scheme of every quantized layer, as w4g128 (its own)')
  addValues(command)
  addGguf(command)
  command.option('--imatrix <file>', 'importance matrix, of lowbit imatrix or llama.cpp')
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

/** Flags that are for GGUF only, named as in llama.cpp. */
export function addGguf(command: Command): void {
  command
    .optionsGroup('GGUF:')
    .option('--tensor-type <pattern=type...>', 'types of some tensors, by their names in GGUF')
    .option('--output-tensor-type <type>', 'type of the head')
    .option('--token-embedding-type <type>', 'type of the token embedding')
    .option('--pure', "the scheme's first type for every matrix")
    .option('--tokenizer-pre <name>', 'name of the pre-tokenizer, where it is not known')
}

function addRun(command: Command): void {
  const run = command
    .optionsGroup('The run:')
    .option('--dry-run', 'print the plan and write nothing')
  addJobFlags(run)
}

async function convert(context: Context, model: string, flags: Flags): Promise<void> {
  const { json, resume: _, ...options } = flags
  return runConvert(context, model, optionsOf(options), json ?? false)
}

/** Flags as options of the call. */
export function optionsOf(
  flags: ConvertOptions & GgufFlags & { readonly maxShardSize?: number | undefined },
): ConvertOptions {
  const { maxShardSize, tensorType, outputTensorType, tokenEmbeddingType, ...same } = flags
  return {
    ...same,
    maxShardBytes: maxShardSize,
    tensorTypes: tensorType && pairsOf('--tensor-type', tensorType, 'ffn_down=Q6_K'),
    outputType: outputTensorType,
    embeddingType: tokenEmbeddingType,
  }
}

/** Converts and prints what became of it. */
export async function runConvert(
  context: Context,
  model: string,
  options: ConvertOptions,
  json: boolean,
): Promise<void> {
  const api = await context.api()
  const report = await api.convert(model, {
    ...options,
    ...watching(context),
  })
  printReport(context, report, json, report.dryRun ? planText : doneText)
}
