/** `lowbit quantize`: make a checkpoint smaller. */
import { type Command, Option } from 'commander'
import { isGgufFile } from '../convert/gguf.ts'
import { LowbitError } from '../error.ts'
import type { QuantizeOptions } from '../options.ts'
import {
  addJobFlags,
  type Context,
  integer,
  number,
  pairsOf,
  printReport,
  type Register,
  MODEL,
  watching,
} from './command.ts'
import { addGguf, type GgufFlags, optionsOf, runConvert } from './convert.ts'
import { doneText, planText } from './quantize-text.ts'

/** Flags of the command, as commander names them. */
interface Flags
  extends
    Pick<
      QuantizeOptions,
      | 'recipe'
      | 'method'
      | 'scheme'
      | 'format'
      | 'samples'
      | 'length'
      | 'targetBpw'
      | 'prune'
      | 'observer'
      | 'actOrder'
      | 'trueSequential'
      | 'strict'
      | 'allowNonfinite'
      | 'damp'
      | 'block'
      | 'refine'
      | 'scaleDtype'
      | 'kvCache'
      | 'seed'
      | 'device'
      | 'compute'
      | 'threads'
      | 'isa'
      | 'fresh'
      | 'force'
      | 'dryRun'
    >,
    GgufFlags {
  readonly out: string
  readonly calibration?: readonly string[]
  readonly ignore?: readonly string[]
  readonly layers?: readonly string[]
  readonly candidates?: readonly string[]
  readonly sparsity?: string
  /** false with --no-all-experts. */
  readonly allExperts: boolean
  readonly compareText?: true | readonly string[]
  readonly maxShardSize?: number
  readonly resume?: boolean
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit quantize ./model -o ./model-w4
  lowbit quantize ./model -o ./model-awq --recipe awq-w4a16
  lowbit quantize ./model -o ./model-w8a8 --recipe my.yaml --calibration chat.txt
  lowbit quantize ./model -o ./model-w8 --method rtn --scheme w8
  lowbit quantize ./model -o ./mixed --layers 're:.*down_proj=w8g128' --dry-run
  lowbit quantize ./model -o ./mixed --target-bpw 4.25
  lowbit quantize ./model -o ./model-w4 --method rtn --imatrix model.imatrix.gguf
  lowbit quantize ./model -o ./model-w4 --device gpu
  lowbit quantize ./model -o ./model-fp8 --recipe fp8-dynamic --kv-cache fp8
  lowbit quantize ./model -o model.gguf --scheme Q4_K_M --imatrix model.imatrix.gguf

lowbit recipes lists the recipes. Every output holds the recipe.yaml that makes it again.
An unfinished run is gone on with when the same command is given again.`

/** Adds the command. */
export const registerQuantize: Register = (program, context) => {
  const command = program
    .command('quantize')
    .summary('make a checkpoint smaller')
    .description(
      'Quantizes a checkpoint. With nothing but -o: GPTQ, 4 bits in groups of 128, symmetric, in ' +
        'compressed-tensors, calibrated on a public-domain text that ships with the package.',
    )
    .argument('<model>', MODEL)
    .requiredOption('-o, --out <folder>', 'folder to write, or a .gguf file')
  addWhat(command)
  addCalibration(command)
  addRounding(command)
  addGguf(command)
  addRun(command)
  command
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: Flags) => quantize(context, model, flags))
}

/** A choice among words; commander refuses others and names these. */
function choice(flags: string, about: string, ...words: readonly string[]): Option {
  return new Option(flags, about).choices(words)
}

function addWhat(command: Command): void {
  command
    .optionsGroup('What is done:')
    .addOption(
      new Option('--recipe <name|file>', 'a preset, or a YAML file of modifiers').conflicts(
        'method',
      ),
    )
    .option(
      '--method <name>',
      'rounding method, or awq or smoothquant with the rounder that suits (gptq)',
    )
    .option('--scheme <name>', 'bits, group and symmetry, as in w4g128-asym (w4g128)')
    .option('--format <name>', 'file format (what suits the scheme)')
    .option('--ignore <patterns...>', 'modules to leave alone, by name or re:expression')
    .option('--layers <pattern=scheme...>', 'schemes for some modules')
    .option('--target-bpw <bits>', 'choose schemes for so many bits per weight', number(1, 16))
    .option('--candidates <schemes...>', 'schemes to choose from then (w3g128 w4g128 w8g128)')
    .addOption(
      choice('--prune <method>', 'make weights zero first', 'magnitude', 'wanda', 'sparsegpt'),
    )
    .option('--sparsity <share|n:m>', 'how many become zero (2:4)')
    .addOption(
      choice(
        '--kv-cache <scheme>',
        'scales for keys and values in 8 bits; -head: one per head',
        'fp8',
        'int8',
        'fp8-head',
        'int8-head',
      ),
    )
}

function addCalibration(command: Command): void {
  command
    .optionsGroup('Calibration:')
    .option('--calibration <sources...>', 'a set of lowbit calibrate, or any text it reads')
    .option('--samples <n>', 'calibration samples (128)', integer(1))
    .option('--length <n>', 'tokens of a sample (512)', integer(2))
    .option('--no-all-experts', 'experts see only the tokens that are routed to them')
}

function addRounding(command: Command): void {
  command
    .optionsGroup('Rounding:')
    .addOption(choice('--observer <name>', 'how ranges are found', 'minmax', 'mse', 'imatrix-mse'))
    .option('--imatrix <file>', 'importance matrix to search them with, without a text')
    .addOption(
      choice('--act-order <order>', 'order of columns in GPTQ', 'static', 'gar', 'group', 'off'),
    )
    .option('--true-sequential', 'later layers of a block see its earlier ones rounded')
    .option('--damp <share>', 'damping in GPTQ (0.01)', number(0, 1))
    .option('--block <n>', 'columns between updates in GPTQ (128)', integer(1))
    .option('--refine <n>', 'rounds of refinement after GPTQ (3)', integer(0))
    .option('--scale-dtype <dtype>', 'data type of scales')
    .option('--seed <n>', 'seed of what is random', integer(0))
    .option('--strict', 'fallbacks and too little data are errors')
    .addOption(
      choice('--allow-nonfinite <how>', 'take NaN and infinity in weights', 'zero', 'keep'),
    )
}

function addRun(command: Command): void {
  const run = command
    .optionsGroup('The run:')
    .option('--dry-run', 'print the plan and write nothing')
    .option('--compare-text [prompts...]', 'write on from prompts, before and after')
    .addOption(choice('--device <device>', 'where calibration runs (cpu)', 'auto', 'cpu', 'gpu'))
    .addOption(choice('--compute <mode>', 'calibration is in f32', 'auto', 'f32', 'int8'))
  addJobFlags(run)
}

/** Flags that say how GGUF is written; others are of calibrated methods. */
const OF_GGUF: ReadonlySet<string> = new Set([
  'out',
  'scheme',
  'format',
  'method',
  'allExperts',
  'threads',
  'isa',
  'maxShardSize',
  'resume',
  'fresh',
  'force',
  'dryRun',
  'json',
  'imatrix',
  'tensorType',
  'outputTensorType',
  'tokenEmbeddingType',
  'pure',
  'tokenizerPre',
])

/** GGUF is rounded to nearest by its own encoders: the same as `lowbit convert`. */
function toGguf(context: Context, model: string, flags: Flags): Promise<void> {
  const { json = false, method = 'rtn', out, scheme, maxShardSize } = flags
  const odd = Object.keys(flags).find((name) => !OF_GGUF.has(name))
  if (odd !== undefined || method !== 'rtn') {
    const name = odd ?? `method ${method}`
    throw new LowbitError('option', `GGUF is rounded to nearest and takes no ${name}`, {
      remedy: 'quantize to another format, or give an --imatrix',
    })
  }
  const { threads, isa, fresh, force, dryRun, imatrix, pure, tokenizerPre } = flags
  const { tensorType, outputTensorType, tokenEmbeddingType } = flags
  const run = { threads, isa, maxShardSize, fresh, force, dryRun }
  const own = { imatrix, pure, tokenizerPre, tensorType, outputTensorType, tokenEmbeddingType }
  return runConvert(
    context,
    model,
    optionsOf({ out, scheme, format: 'gguf', ...run, ...own }),
    json,
  )
}

async function quantize(context: Context, model: string, flags: Flags): Promise<void> {
  if (flags.format === 'gguf' || isGgufFile(flags.out)) return toGguf(context, model, flags)
  const { json, resume: _, maxShardSize, layers, sparsity, allExperts, ...same } = flags
  const api = await context.api()
  const report = await api.quantize(model, {
    ...same,
    ...(layers ? { layers: pairsOf('--layers', layers, 're:.*down_proj=w8g128') } : {}),
    ...(sparsity === undefined ? {} : { sparsity: shareOf(sparsity) }),
    ...(allExperts ? {} : { allExperts }),
    maxShardBytes: maxShardSize,
    ...watching(context),
  })
  printReport(context, report, json, report.dryRun ? planText : doneText)
}

/** `0.5`, or `2:4` as it is. */
function shareOf(text: string): number | string {
  return Number.isNaN(Number(text)) ? text : Number(text)
}
