/** `lowbit imatrix`: how much each input column of each matrix matters. */
import { Option } from 'commander'
import { bytesText } from '../bytes.ts'
import type { ImatrixReport } from '../imatrix.ts'
import type { ImatrixOptions } from '../options.ts'
import { type Context, integer, MODEL, printReport, type Register, watching } from './command.ts'
import { tableText, timeText } from './terminal.ts'

interface Flags extends Omit<ImatrixOptions, 'signal' | 'onProgress'> {
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit imatrix ./model -o model.imatrix.gguf
  lowbit imatrix ./model -o model.imatrix.gguf --calibration set.jsonl --samples 256
  lowbit imatrix -o both.imatrix.gguf --merge one.imatrix.gguf two.dat
  lowbit convert ./model -o model.gguf --scheme Q4_K_M --imatrix model.imatrix.gguf

The file is that of llama-imatrix: sums of squares of every input column with the number of tokens,
for each expert its own. A name that ends in .dat is written in the format before GGUF.`

/** Adds the command. */
export const registerImatrix: Register = (program, context) => {
  program
    .command('imatrix')
    .summary('collect an importance matrix')
    .description('Runs a calibration set through a model and keeps how large each input is.')
    .argument('[model]', MODEL)
    .requiredOption('-o, --out <file>', 'file to write, as model.imatrix.gguf')
    .option('--calibration <sources...>', 'a set of lowbit calibrate, or any text it reads')
    .option('--samples <n>', 'samples (128)', integer(1))
    .option('--length <n>', 'tokens of a sample (512)', integer(2))
    .option('--merge <files...>', 'files to add to what is collected, or to one another')
    .addOption(new Option('--format <name>', 'gguf, or dat of before').choices(['gguf', 'dat']))
    .option('--threads <n>', 'CPU threads', integer(1))
    .addOption(new Option('--isa <name>', 'instruction set').hideHelp())
    .option('--force', 'replace a file that is already there')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string | undefined, flags: Flags) => imatrix(context, model, flags))
}

async function imatrix(
  context: Context,
  model: string | undefined,
  { json, ...options }: Flags,
): Promise<void> {
  const api = await context.api()
  const report = await api.imatrix(model, {
    ...options,
    ...watching(context),
  })
  printReport(context, report, json, reportText)
}

function reportText({ out, bytes, samples, length, text, merged, seconds }: ImatrixReport): string {
  return tableText([
    ['written', `${out}, ${bytesText(bytes)}`],
    ...(text === null ? [] : [['set', `${samples} × ${length} tokens of ${text}`]]),
    ...merged.map((file) => ['merged', file]),
    ['time', timeText(seconds)],
  ])
}
