/** `lowbit classify`: labels and scores of texts. */
import { Option } from 'commander'
import type { ScoreFunction } from '../encode/classify.ts'
import {
  addRunFlags,
  type Context,
  printJson,
  type Register,
  watching,
  withModel,
} from './command.ts'
import { addTexts, onCpu, type TextFlags, textsOf } from './files.ts'
import { tableText } from './terminal.ts'

interface Flags extends TextFlags {
  readonly pair?: string
  readonly scores?: ScoreFunction
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit classify ./sentiment 'what a lovely day'
  lowbit classify ./reranker --pair 'who wrote it?' 'a first passage' 'a second one' --json`

/** Adds the command. */
export const registerClassify: Register = (program, context) => {
  const command = addTexts(program.command('classify'))
    .summary('give texts labels and scores')
    .description(
      'Prints the most likely label of each text and its score; with --pair, of each pair, as ' +
        'cross-encoders and rerankers take them. Runs on the CPU.',
    )
    .option('--pair <text>', 'the first text of pairs, such as a question')
    .addOption(
      new Option('--scores <function>', 'how scores are made, whatever the model says').choices([
        'softmax',
        'sigmoid',
        'none',
      ]),
    )
  addRunFlags(command)
    .option('--json', 'print every label as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, texts: string[], flags: Flags) =>
      classify(context, model, texts, flags),
    )
}

async function classify(
  context: Context,
  place: string,
  given: readonly string[],
  flags: Flags,
): Promise<void> {
  const texts = await textsOf(context, given, flags.file)
  const { pair } = flags
  await withModel(context, place, onCpu(flags), async (model) => {
    const asked = pair === undefined ? texts : texts.map((text) => [pair, text] as const)
    const { scores } = flags
    const found = await model.classify(asked, { scores, ...watching(context) })
    if (flags.json) {
      const list = found.map((one, i) => ({ text: texts[i], ...one }))
      return printJson(context, {
        model: place,
        ...(pair === undefined ? {} : { pair }),
        texts: list,
      })
    }
    const row = (i: number) => [
      found[i]?.label ?? '',
      (found[i]?.score ?? 0).toFixed(4),
      texts[i] ?? '',
    ]
    context.terminal.out(tableText(texts.map((_, i) => row(i))))
  })
}
