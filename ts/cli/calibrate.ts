/** `lowbit calibrate`: make a calibration set of whatever text there is. */
import { InvalidArgumentError, Option } from 'commander'
import type { FileFacts } from '../calibration/read.ts'
import type { CalibrateReport, Spread } from '../calibration/report.ts'
import { RULES, STRATEGIES } from '../calibration/names.ts'
import type { CalibrateOptions } from '../options.ts'
import { type Context, integer, printReport, type Register, watching } from './command.ts'
import { tableText, timeText } from './terminal.ts'

interface Flags extends Omit<CalibrateOptions, 'signal' | 'onProgress'> {
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit calibrate ./books ./chats.jsonl -o set.jsonl
  lowbit calibrate ./chats.jsonl -o set.jsonl --model ./model --mix en=0.5,zh=0.5
  lowbit calibrate org/name:config:train -o set.jsonl --rows 5000 --select diverse
  zcat dump.gz | lowbit calibrate - -o set.jsonl --skip-bad
  lowbit quantize ./model -o ./model-w4 --calibration set.jsonl

Sources are files (plain text, HTML, JSONL or JSON rows with text, messages, conversations or
instruction, Parquet; .gz too), folders of them, addresses, data sets of the hub by name, and -
for standard input. With --model, samples have exactly --length tokens and keep their ids; without,
the set is texts that fill about as many. set.manifest.json says how the set was made; the same
command writes the same bytes.`

/** Adds the command. */
export const registerCalibrate: Register = (program, context) => {
  program
    .command('calibrate')
    .summary('make a calibration set of text')
    .description(
      'Reads texts and conversations, cleans them, leaves out what is too short or there twice, ' +
        'chooses samples and writes them as JSONL with a manifest beside.',
    )
    .argument('<sources...>', 'files, folders, addresses, org/name data sets, or -')
    .requiredOption('-o, --out <file>', 'set to write, as set.jsonl')
    .option('--model <folder>', 'model whose tokenizer and chat template are used')
    .option('--samples <n>', 'samples of the set (128)', integer(1))
    .option('--length <n>', 'tokens of a sample (512)', integer(2))
    .addOption(
      new Option('--select <strategy>', 'how samples are chosen (random)').choices(STRATEGIES),
    )
    .option('--mix <shares>', 'share of each language, as en=0.5,zh=0.5', mixOf)
    .option('--languages <codes...>', 'languages to keep, as en zh')
    .addOption(new Option('--without <rules...>', 'cleaning rules to leave out').choices(RULES))
    .option('--min-length <n>', 'words that a text must have (8)', integer(0))
    .option('--no-pack', 'one text to a sample, instead of joining texts to fill it')
    .option('--field <name>', 'field of a row that is its text or messages')
    .option('--rows <n>', 'most rows of each file', integer(1))
    .option('--skip-bad', 'leave out rows that cannot be read, and count them')
    .option('--seed <n>', 'seed of what is random (0)', integer(0))
    .option('--force', 'replace a set that is already there')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', EXAMPLES)
    .action((sources: readonly string[], flags: Flags) => calibrate(context, sources, flags))
}

async function calibrate(
  context: Context,
  sources: readonly string[],
  { json, ...options }: Flags,
): Promise<void> {
  const api = await context.api()
  const report = await api.calibrate(sources, {
    ...options,
    ...watching(context),
  })
  printReport(context, report, json, reportText)
}

/** `en=0.5,zh=0.5` */
function mixOf(text: string): Record<string, number> {
  const pairs = text.split(',').map((part) => /^([a-z]{2,3})=(\d*\.?\d+)%?$/.exec(part.trim()))
  if (pairs.every((pair) => pair !== null)) {
    return Object.fromEntries(pairs.map(([, code = '', share]) => [code, Number(share)]))
  }
  throw new InvalidArgumentError('It must be shares such as en=0.5,zh=0.5.')
}

function reportText(report: CalibrateReport): string {
  const { samples, length, tokens, exact, documents, lengths, coverage, perplexity } = report
  const about = exact ? '' : 'about '
  const size = exact ? `${samples} samples of ${length} tokens` : `${samples} texts`
  return tableText([
    ['written', report.out ?? ''],
    ['manifest', report.manifest ?? ''],
    ['set', `${size}, ${about}${tokens} tokens`],
    ['languages', sharesText(report.languages)],
    ['documents', `${documents.read} read, ${documents.kept} kept`],
    ['changed', countsText(report.changed)],
    ['left out', countsText(report.dropped)],
    ...(lengths ? [['lengths', `${about}${spreadText(lengths, 0)} tokens`]] : []),
    ...(coverage ? [['coverage', coverageText(coverage)]] : []),
    ...(perplexity ? [['perplexity', spreadText(perplexity, 1)]] : []),
    ...report.sources.map((source) => ['source', sourceText(source)]),
    ['time', timeText(report.seconds)],
  ])
}

function sourceText({ name, format, documents, skipped, whole }: FileFacts): string {
  const bad = skipped > 0 ? `, ${skipped} could not be read` : ''
  return `${name}: ${format}, ${documents} documents${bad}${whole ? '' : ', not all'}`
}

function coverageText({
  seen,
  vocabulary,
  share,
}: NonNullable<CalibrateReport['coverage']>): string {
  return `${seen} of ${vocabulary} tokens, ${(share * 100).toFixed(1)} %`
}

function countsText(counts: Readonly<Record<string, number>>): string {
  const parts = Object.entries(counts).map(([name, count]) => `${count} ${name}`)
  return parts.length > 0 ? parts.join(', ') : 'none'
}

function sharesText(shares: Readonly<Record<string, number>>): string {
  return Object.entries(shares)
    .slice(0, 8)
    .map(([code, share]) => `${code} ${(share * 100).toFixed(1)} %`)
    .join(', ')
}

function spreadText({ min, p10, median, p90, max }: Spread, digits: number): string {
  const list = [min, p10, median, p90, max].map((value) => value.toFixed(digits)).join(' / ')
  return `${list} (least, 10 %, median, 90 %, most)`
}
