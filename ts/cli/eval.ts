/** `lowbit eval`: what a model's quality is, and what quantization cost. */
import { Option } from 'commander'
import { bytesText } from '../bytes.ts'
import type { Evaluation } from '../evaluate/evaluate.ts'
import type { CacheInfo } from '../loaded.ts'
import {
  addRunFlags,
  type Context,
  integer,
  printJson,
  type Register,
  type RunFlags,
  runOptions,
  MODEL,
  watching,
} from './command.ts'
import { readTextFile } from './files.ts'
import { tableText } from './terminal.ts'

interface Flags extends RunFlags {
  readonly text?: string
  readonly window?: number
  readonly reference?: string
  readonly kvCache?: 'fp8' | 'int8'
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit eval ./model-w4
  lowbit eval ./model-w4 --text ./test.txt --window 2048 --reference ./model --json
  lowbit eval ./model-fp8 --kv-cache fp8 --reference ./model-fp8     # what the cache alone costs`

/** Adds the command. */
export const registerEval: Register = (program, context) => {
  const command = program
    .command('eval')
    .summary('measure perplexity, and divergence from an original')
    .description(
      'Tokenizes a text once, cuts it into windows that do not overlap, drops the tail, and gives ' +
        'exp of the mean negative log-likelihood over all shifted positions. Computes in f32.',
    )
    .argument('<model>', MODEL)
    .option('--text <file>', 'text to measure on (a public-domain text)')
    .option('--window <n>', 'tokens of a window (512)', integer(2))
    .option('--reference <model>', 'the original, to measure the divergence from')
    .addOption(
      new Option(
        '--kv-cache <scheme>',
        'round keys and values as engines do, with the scales of the model if it has some',
      ).choices(['fp8', 'int8']),
    )
  addRunFlags(command)
    .option('--json', 'print the figures as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: Flags) => evaluate(context, model, flags))
}

async function evaluate(context: Context, model: string, flags: Flags): Promise<void> {
  const { json, window, reference, kvCache } = flags
  const text = flags.text === undefined ? undefined : await readTextFile(flags.text)
  const api = await context.api()
  const figures = await api.evaluate(model, {
    ...runOptions(flags),
    text,
    window,
    reference,
    kvCache,
    ...watching(context),
  })
  if (json) printJson(context, figures)
  else context.terminal.out(figuresText(figures))
}

function figuresText(figures: Evaluation): string {
  const { perplexity, nll, windows, window, bitsPerWeight, bytes, reference } = figures
  const rows: (readonly string[])[] = [
    ['perplexity', perplexity.toFixed(3)],
    ['nll', `${nll.toFixed(5)} nats`],
    ['windows', `${windows} of ${window} tokens`],
    ['bits per weight', bitsPerWeight.toFixed(3)],
    ['size', bytesText(bytes)],
    ['compute', `${figures.compute} on ${figures.device}`],
  ]
  if (figures.kvCache) rows.push(['KV cache', cacheText(figures.kvCache)])
  if (reference) {
    rows.push(
      ['reference', `${reference.perplexity.toFixed(3)} perplexity`],
      ['mean KL', `${figures.meanKld?.toFixed(6)} nats`],
      ['99 % KL', `${figures.p99Kld?.toFixed(4)} nats`],
      ['same top token', `${((figures.sameTop ?? 0) * 100).toFixed(2)} %`],
    )
  }
  return tableText(rows)
}

const SCALES: Readonly<Record<CacheInfo['scales'], string>> = {
  checkpoint: 'scales of the checkpoint',
  one: 'scales of 1: the checkpoint has none',
  token: 'a scale for each head of each token: the checkpoint has none',
}

function cacheText({ scheme, scales }: CacheInfo): string {
  return `${scheme}, ${SCALES[scales]}`
}
