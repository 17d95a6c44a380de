/** `lowbit embed`: one vector per text. */
import {
  addRunFlags,
  type Context,
  printJson,
  type Register,
  watching,
  withModel,
} from './command.ts'
import { addTexts, onCpu, type TextFlags, textsOf } from './files.ts'

interface Flags extends TextFlags {
  readonly pooling?: string
  readonly prompt?: string
  readonly normalize?: boolean
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit embed ./all-MiniLM-L6-v2 'a fast fox' 'a quick brown dog'
  lowbit embed ./all-MiniLM-L6-v2 --file lines.txt --json > vectors.json`

/** Adds the command. */
export const registerEmbed: Register = (program, context) => {
  const command = addTexts(program.command('embed'))
    .summary('turn texts into vectors')
    .description(
      'Prints one vector per text, pooled and normalized as the files of sentence-transformers ' +
        'beside the model say. Runs on the CPU.',
    )
    .option('--pooling <name>', 'cls, mean, max or lasttoken, whatever the model says')
    .option('--prompt <name>', 'one of the prompts that the model names, put in front of texts')
    .option('--normalize', 'divide vectors by their length')
    .option('--no-normalize', 'leave vectors as they are')
  addRunFlags(command)
    .option('--json', 'print texts and vectors as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, texts: string[], flags: Flags) => embed(context, model, texts, flags))
}

async function embed(
  context: Context,
  place: string,
  given: readonly string[],
  flags: Flags,
): Promise<void> {
  const texts = await textsOf(context, given, flags.file)
  await withModel(context, place, onCpu(flags), async (model) => {
    const { pooling, prompt, normalize } = flags
    const vectors = await model.embed(texts, {
      pooling,
      prompt,
      normalize,
      ...watching(context),
    })
    if (flags.json) {
      const list = vectors.map((vector, i) => ({ text: texts[i], vector: [...vector] }))
      return printJson(context, { model: place, size: vectors[0]?.length ?? 0, vectors: list })
    }
    for (const vector of vectors) context.terminal.out(`${lineOf(vector)}\n`)
  })
}

/** Numbers with the digits that a float holds. */
function lineOf(vector: Float32Array): string {
  return Array.from(vector, (value) => value.toPrecision(7)).join(' ')
}
