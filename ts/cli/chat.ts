/** `lowbit chat`: a conversation, one line a turn. */
import type { Model } from '../model.ts'
import type { Message } from '../text/chat.ts'
import { type Context, type Register, MODEL, withModel } from './command.ts'
import {
  addSamplingFlags,
  gather,
  generateOptions,
  loadOptions,
  type SamplingFlags,
} from './run.ts'

interface Flags extends SamplingFlags {
  readonly system?: string
}

const EXAMPLES = `
Examples:
  lowbit chat ./model-w4
  lowbit chat ./model-w4 --system 'Answer in one sentence.' --temperature 0.7

/reset begins again, /exit or the end of input ends.`

/** Shown where a line is expected. */
const INVITATION = '> '

/** Adds the command. */
export const registerChat: Register = (program, context) => {
  const command = program
    .command('chat')
    .summary('talk to a model')
    .description("Holds a conversation in the model's own chat format.")
    .argument('<model>', MODEL)
    .option('--system <text>', 'what the model is told first')
  addSamplingFlags(command)
    .addHelpText('after', EXAMPLES)
    .action((model: string, flags: Flags) => chat(context, model, flags))
}

async function chat(context: Context, place: string, flags: Flags): Promise<void> {
  await withModel(context, place, loadOptions(flags, context), async (model) => {
    context.terminal.clear()
    await converse(context, model, flags)
  })
}

async function converse(context: Context, model: Model, flags: Flags): Promise<void> {
  const first: readonly Message[] =
    flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  let messages = [...first]
  context.terminal.invite(INVITATION)
  for await (const line of context.lines()) {
    if (line === '/exit') return
    if (line === '/reset') messages = [...first]
    else if (line !== '') {
      messages.push({ role: 'user', content: line })
      const pieces = model.generate(messages, generateOptions(flags, context))
      const { text } = await gather(pieces, context.terminal.out)
      context.terminal.out('\n')
      messages.push({ role: 'assistant', content: text })
    }
    context.terminal.invite(INVITATION)
  }
}
