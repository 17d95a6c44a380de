/** `lowbit run`: text that follows a prompt. */
import type { GenerateOptions, LoadOptions, Usage } from '../options.ts'
import {
  addRunFlags,
  type Context,
  integer,
  number,
  printJson,
  type Register,
  type RunFlags,
  runOptions,
  MODEL,
  watching,
  withModel,
} from './command.ts'

/** Flags of sampling, which `run` and `chat` share. */
export interface SamplingFlags extends RunFlags {
  readonly maxTokens?: number
  readonly temperature?: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly seed?: number
  readonly stop?: readonly string[]
  readonly context?: number
}

interface Flags extends SamplingFlags {
  readonly prompt: string
  readonly json?: boolean
}

const EXAMPLES = `
Examples:
  lowbit run ./model-w4 -p 'Once upon a time'
  lowbit run ./model-w4 -p 'Dear' -n 200 --temperature 0.8 --seed 1`

/** Adds the command. */
export const registerRun: Register = (program, context) => {
  const command = program
    .command('run')
    .summary('generate text')
    .description('Generates text that follows a prompt and prints it while it comes.')
    .argument('<model>', MODEL)
    .requiredOption('-p, --prompt <text>', 'text to go on from')
  addSamplingFlags(command)
    .option('--json', 'print text and usage as JSON')
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: Flags) => run(context, model, flags))
}

/** Adds the flags of sampling and of running a model. */
export function addSamplingFlags(command: Parameters<typeof addRunFlags>[0]): typeof command {
  command
    .option('-n, --max-tokens <n>', 'most tokens to generate', integer(1))
    .option('--temperature <t>', '0 takes the most likely token', number(0, 100))
    .option('--top-k <k>', 'sample among this many', integer(0))
    .option(
      '--top-p <p>',
      'sample among the likeliest with this probability together',
      number(0, 1),
    )
    .option(
      '--min-p <p>',
      'sample among those this likely, relative to the likeliest',
      number(0, 1),
    )
    .option('--seed <n>', 'makes sampling repeatable', integer(0))
    .option('--stop <text...>', 'text that ends the generation')
    .option('--context <n>', 'longest sequence in tokens', integer(1))
  return addRunFlags(command)
}

/** The options of loading a model to generate among a command's flags. */
export function loadOptions(flags: SamplingFlags, context: Context): LoadOptions {
  const { onProgress } = watching(context)
  return { ...runOptions(flags), context: flags.context, onProgress }
}

/** The options of a generation among a command's flags. */
export function generateOptions(flags: SamplingFlags, context: Context): GenerateOptions {
  const { maxTokens, temperature, topK, topP, minP, seed, stop } = flags
  return { maxTokens, temperature, topK, topP, minP, seed, stop, signal: context.signal }
}

async function run(context: Context, place: string, flags: Flags): Promise<void> {
  const { terminal } = context
  await withModel(context, place, loadOptions(flags, context), async (model) => {
    const begun = performance.now()
    const pieces = model.generate(flags.prompt, generateOptions(flags, context))
    const { text, usage } = await gather(pieces, flags.json ? () => undefined : terminal.out)
    const seconds = (performance.now() - begun) / 1000
    if (flags.json) {
      return printJson(context, { model: place, prompt: flags.prompt, text, ...usage, seconds })
    }
    terminal.out('\n')
    terminal.note(usageText(usage, seconds, model.info))
  })
}

/** Takes a generation to its end, showing each piece. */
export async function gather(
  pieces: AsyncGenerator<string, Usage, undefined>,
  show: (piece: string) => void,
): Promise<{ text: string; usage: Usage }> {
  let text = ''
  for (;;) {
    const { value, done } = await pieces.next()
    if (done) return { text, usage: value }
    text += value
    show(value)
  }
}

function usageText(
  usage: Usage,
  seconds: number,
  how: { readonly compute: string; readonly device: string },
): string {
  const { promptTokens, completionTokens, finishReason, seed } = usage
  const speed = ((promptTokens + completionTokens) / seconds).toFixed(1)
  return (
    `${promptTokens} + ${completionTokens} tokens, ${speed} a second, ${how.compute} on ` +
    `${how.device}, ended by ${finishReason}, seed ${seed}`
  )
}
