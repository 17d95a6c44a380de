/** The command line: arguments in, exit code out. */
import { Command, CommanderError } from 'commander'
import { errorFrom, LowbitError } from '../error.ts'
import { registerCalibrate } from './calibrate.ts'
import { registerChat } from './chat.ts'
import { registerClassify } from './classify.ts'
import type { Context, Register } from './command.ts'
import { registerConvert } from './convert.ts'
import { registerDoctor } from './doctor.ts'
import { registerEmbed } from './embed.ts'
import { registerEval } from './eval.ts'
import { registerFormats } from './formats.ts'
import { registerImatrix } from './imatrix.ts'
import { registerInspect } from './inspect.ts'
import { registerQuantize } from './quantize.ts'
import { registerRecipes } from './recipes.ts'
import { registerRun } from './run.ts'

/** Every command, in the order of the help. */
const COMMANDS: readonly Register[] = [
  registerQuantize,
  registerConvert,
  registerCalibrate,
  registerImatrix,
  registerRecipes,
  registerEval,
  registerRun,
  registerChat,
  registerEmbed,
  registerClassify,
  registerInspect,
  registerFormats,
  registerDoctor,
]

/** Exit codes of the program; interruption adds 130 and 143. */
const EXIT = { success: 0, failure: 1, usage: 2 } as const

const EXAMPLES = `
Examples:
  lowbit quantize ./model -o ./model-w4
  lowbit eval ./model-w4 --reference ./model
  lowbit run ./model-w4 -p 'Once upon a time'`

/** Runs one command line and gives its exit code; an interruption's is the caller's to give. */
export async function runProgram(
  args: readonly string[],
  context: Context,
  version: string,
): Promise<number> {
  const program = programOf(context, version)
  if (args.length === 0) {
    context.terminal.note(program.helpInformation() + EXAMPLES)
    return EXIT.usage
  }
  try {
    await program.parseAsync([...args], { from: 'user' })
    return EXIT.success
  } catch (thrown) {
    if (thrown instanceof CommanderError) return usage(context, thrown)
    const error = errorFrom(thrown)
    context.terminal.note(errorLine(error))
    return error.code === 'option' ? EXIT.usage : EXIT.failure
  } finally {
    context.terminal.clear()
  }
}

/** `error[code]: what, where, remedy`, on one line whatever a file wrote into it. */
export function errorLine(error: LowbitError): string {
  const text = error.message.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ')
  const report = error.code === 'internal' ? '; please report it with the command' : ''
  return `error[${error.code}]: ${text}${report}`
}

function programOf(context: Context, version: string): Command {
  const program = new Command('lowbit')
    .description('Quantization and int4 inference of language models')
    .version(version, '-V, --version')
    .showSuggestionAfterError()
    .addHelpText('after', EXAMPLES)
  for (const register of COMMANDS) register(program, context)
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => context.terminal.out(text),
      // What is wrong is said once, below, in the form of every other error.
      writeErr: () => undefined,
    })
  }
  return program
}

function usage(context: Context, error: CommanderError): number {
  if (error.exitCode === 0) return EXIT.success
  const [what = '', ...hints] = error.message.replace(/^error: /, '').split('\n')
  const hint = hints.join(' ').replace(/^\((.*)\)$/, '$1')
  const detail = { remedy: hint === '' ? 'see lowbit --help' : lowerFirst(hint) }
  context.terminal.note(errorLine(new LowbitError('option', what, detail)))
  return EXIT.usage
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1)
}
