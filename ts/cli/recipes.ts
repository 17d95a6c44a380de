/** `lowbit recipes`: the recipes that ship with the package. */
import { LowbitError, nearest, quote } from '../error.ts'
import { METHODS, PRESETS } from '../recipe/presets.ts'
import { type Context, printJson, type Register } from './command.ts'
import { tableText } from './terminal.ts'

const EXAMPLES = `
Examples:
  lowbit recipes
  lowbit recipes awq-w4a16 > my.yaml
  lowbit quantize ./model -o ./model-w4 --recipe awq-w4a16`

/** Adds the command. */
export const registerRecipes: Register = (program, context) => {
  program
    .command('recipes')
    .summary('list the recipes that ship with it')
    .description('Lists recipes for --recipe, or prints one, to begin an own one with.')
    .argument('[name]', 'the one to print')
    .option('--json', 'print them as JSON')
    .addHelpText('after', EXAMPLES)
    .action((name: string | undefined, flags: { readonly json?: boolean }) =>
      recipes(context, name, flags),
    )
}

async function recipes(
  context: Context,
  name: string | undefined,
  flags: { readonly json?: boolean },
): Promise<void> {
  if (name === undefined) {
    if (flags.json) return printJson(context, { recipes: PRESETS, methods: METHODS })
    return context.terminal.out(tableText(PRESETS.map((preset) => [preset.name, preset.about])))
  }
  const found = PRESETS.find((preset) => preset.name === name)
  if (!found) {
    const near = nearest(
      name,
      PRESETS.map((preset) => preset.name),
    )
    throw new LowbitError('option', `There is no recipe ${quote(name)}`, {
      remedy: `did you mean ${quote(near ?? '')}?`,
    })
  }
  if (flags.json) return printJson(context, found)
  const { stringify } = await import('yaml')
  context.terminal.out(`# ${found.about}\n${stringify(found.recipe, { lineWidth: 0 })}`)
}
