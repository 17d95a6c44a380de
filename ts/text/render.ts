/**
 * Renders a template within bounds. A template is a program that came with a model: it may loop
 * for ever or build a gigabyte. Every step of it and every value that it makes is charged to a
 * budget that grows with the conversation only, so the outcome is the same on every machine, and
 * in a page too, where nothing could interrupt it.
 */
import { Environment, Interpreter, Template } from '@huggingface/jinja'

/** Steps of any template, and more for each message. */
const STEPS = 100_000
const STEPS_PER_MESSAGE = 10_000

/** Characters and list entries that cost as much as a step. */
const CHARACTERS_PER_STEP = 256
const ENTRIES_PER_STEP = 16

/** Longest text, and longest list, that a template may make. */
const CHARACTERS_MAX = 16 << 20
const ENTRIES_MAX = 100_000

/** What a template is given. */
export interface Values {
  readonly messages: readonly object[]
  readonly [name: string]: unknown
}

/** The text of a template; throws a plain `Error` when it fails or goes over its bounds. */
export function renderWithin(template: Template, values: Values): string {
  const environment = new Environment()
  // Only these names exist for the template; nothing of a caller is spread into them.
  for (const [name, value] of Object.entries({ ...GLOBALS, ...values })) {
    environment.set(name, value)
  }
  const { messages } = values
  const input = JSON.stringify(values).length
  const budget = STEPS + STEPS_PER_MESSAGE * messages.length + input / 4
  return String(new Metered(environment, budget).run(template.parsed).value)
}

/** What every template may use, as the library has it, but for the length of ranges. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range,
  raise_exception(message: unknown): never {
    throw new Error(String(message))
  },
  strftime_now: (format: unknown) => NOW.render({ format }),
}

const NOW = new Template('{{ strftime_now(format) }}')

function range(first: number, last?: number, step: number = 1): number[] {
  const [start, stop] = last === undefined ? [0, first] : [first, last]
  const count = Math.max(0, Math.ceil((stop - start) / step))
  if (!(count <= ENTRIES_MAX)) throw new Error(`range() of ${count} numbers`)
  return Array.from({ length: count }, (_, i) => start + i * step)
}

/** A node of a parsed template, as far as it is looked at. */
interface Node {
  readonly type: string
  /** What a loop runs over, in itself or under its condition. */
  readonly iterable?: Node
  readonly lhs?: Node
}

/** A value of a template. */
interface Value {
  readonly value?: unknown
}

/** The library's interpreter, whose declarations do not resolve for modules of Node. */
interface Base {
  evaluate(node: Node | undefined, environment: Environment): Value
  run(program: unknown): Value
}

const Library: new (environment: Environment) => Base = Interpreter

/** Nodes that give a value that is there already. */
const NAMES: ReadonlySet<string> = new Set(['Identifier', 'MemberExpression'])

class Metered extends Library {
  readonly #iterables = new WeakSet<Node>()
  #budget: number

  constructor(environment: Environment, budget: number) {
    super(environment)
    this.#budget = budget
  }

  override evaluate(node: Node | undefined, environment: Environment): Value {
    this.#charge(1)
    const { iterable } = node ?? {}
    if (iterable) this.#iterables.add(iterable.lhs ?? iterable)
    const result = super.evaluate(node, environment)
    this.#charge(this.#cost(node, result.value))
    return result
  }

  #cost(node: Node | undefined, value: unknown): number {
    if (typeof value === 'string') {
      if (value.length > CHARACTERS_MAX) throw new Error(`it makes ${value.length} characters`)
      return value.length / CHARACTERS_PER_STEP
    }
    if (!Array.isArray(value)) return 0
    if (value.length > ENTRIES_MAX) throw new Error(`it makes a list of ${value.length}`)
    // A name costs little; a loop, and an operation that makes a list, goes through all of it.
    const isLooked = node && NAMES.has(node.type) && !this.#iterables.has(node)
    return isLooked ? value.length / ENTRIES_PER_STEP : value.length
  }

  #charge(steps: number): void {
    this.#budget -= steps
    if (this.#budget < 0) throw new Error('it does not end within its steps')
  }
}
