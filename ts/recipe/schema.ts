/**
 * The JSON schema of recipes (draft 2020-12), which editors read too: the build writes it to
 * `lowbit/recipe.schema.json`. It has no references and no unions but of plain types, so that an
 * error names one place and one reason.
 */

/** The part of JSON schema that recipes need. */
export interface Schema {
  readonly $schema?: string
  readonly title?: string
  readonly description?: string
  readonly type?: SchemaType | readonly SchemaType[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean | Schema
  readonly required?: readonly string[]
  readonly minProperties?: number
  readonly maxProperties?: number
  readonly items?: Schema
  readonly minItems?: number
  readonly minLength?: number
  readonly pattern?: string
  /** Texts that fit the pattern. */
  readonly examples?: readonly string[]
  readonly minimum?: number
  readonly exclusiveMinimum?: number
  readonly maximum?: number
  readonly exclusiveMaximum?: number
}

type SchemaType = 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null'

const name: Schema = { type: 'string', minLength: 1 }

function text(description: string, more: Schema = {}): Schema {
  return { description, type: 'string', minLength: 1, ...more }
}

function flag(description: string): Schema {
  return { description, type: 'boolean' }
}

function choice(description: string, ...values: readonly string[]): Schema {
  return { description, type: 'string', enum: values }
}

function patterns(description: string): Schema {
  return { description, type: ['string', 'array'], minLength: 1, items: name }
}

function group(description: string, properties: Readonly<Record<string, Schema>>): Schema {
  return { description, type: ['object', 'null'], properties, additionalProperties: false }
}

const ignore = patterns('Linears left alone: names, re: and an expression, or the class Linear.')

const sparsity: Schema = {
  description: 'Share of weights that become zero, or n:m as in 2:4 for n of every m neighbours.',
  type: ['number', 'string'],
  exclusiveMinimum: 0,
  exclusiveMaximum: 1,
  pattern: '^[1-9][0-9]*:[1-9][0-9]*$',
  examples: ['2:4'],
}

const rounder: Readonly<Record<string, Schema>> = {
  scheme: text('Bits, group and symmetry, as in w4g128-asym, w8a8, fp8a8 or nf4.'),
  targets: patterns('Linears that it rounds: names, re: and an expression, or the class Linear.'),
  ignore,
  layers: {
    description: 'Pattern: another scheme, or scheme and method; the first that fits decides.',
    type: 'object',
    additionalProperties: {
      type: ['string', 'object'],
      minLength: 1,
      properties: {
        scheme: text('Their scheme.'),
        method: choice('Their method.', 'rtn', 'gptq', 'hqq'),
      },
      additionalProperties: false,
    },
  },
  observer: choice('How ranges are found.', 'minmax', 'mse', 'imatrix-mse'),
  'scale-dtype': choice("Type of stored scales; the weight's own otherwise.", 'F32', 'F16', 'BF16'),
  'target-bpw': {
    description: 'Bits per weight that schemes are chosen for, scales and zeros counted.',
    type: 'number',
    minimum: 1,
    maximum: 16,
  },
  candidates: {
    description: 'Schemes to choose from then.',
    type: 'array',
    items: name,
    minItems: 1,
  },
}

const secondOrder: Readonly<Record<string, Schema>> = {
  damp: {
    description: "Damping relative to the mean of the Hessian's diagonal.",
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
  },
  block: { description: 'Columns between lazy updates.', type: 'integer', minimum: 1 },
}

const gptq: Readonly<Record<string, Schema>> = {
  ...rounder,
  ...secondOrder,
  refine: {
    description: 'How often scales and codes are refined after rounding.',
    type: 'integer',
    minimum: 0,
    maximum: 100,
  },
  'act-order': choice('Order of columns.', 'static', 'gar', 'group', 'off'),
  'true-sequential': flag('Later linears of a block see its earlier ones after rounding.'),
}

const pruning = { sparsity, ignore }

const modifiers: Readonly<Record<string, Schema>> = {
  rotate: group('Hadamard rotations fused into weights; needs no data.', {
    r1: flag('Over the residual stream.'),
    r2: flag('Over the values of each head.'),
    random: flag('With random signs, drawn by the seed.'),
  }),
  smoothquant: group('Moves outliers from inputs into weights.', {
    strength: {
      description: '0 leaves the inputs alone, 1 takes all of their range.',
      type: 'number',
      minimum: 0,
      maximum: 1,
    },
    layers: {
      description: 'Pattern: another strength; the first that fits decides.',
      type: 'object',
      additionalProperties: { type: 'number', minimum: 0, maximum: 1 },
    },
    search: flag('Search the strength of each place by the error of its outputs.'),
    ignore,
  }),
  awq: group('Scales channels by a search over the error of outputs.', {
    duo: flag("Take the weights' size into account as well as the inputs'."),
    grid: { description: 'Ratios tried.', type: 'integer', minimum: 1, maximum: 1000 },
    clip: flag("Shrink each group's range afterwards where that helps."),
    ignore,
  }),
  magnitude: group('Prunes the smallest weights.', pruning),
  wanda: group('Prunes by the size of weights times inputs.', pruning),
  sparsegpt: group('Prunes by second order; the other weights make up for it.', {
    ...pruning,
    ...secondOrder,
  }),
  rtn: group('Rounds to nearest.', rounder),
  gptq: group('Rounds column by column, later columns making up for earlier errors.', gptq),
  hqq: group('Half-quadratic search of zero points; needs no data.', rounder),
}

const calibration: Schema = {
  description: 'The text that calibration runs on.',
  type: 'object',
  properties: {
    files: {
      description: 'Files by name, relative to the recipe.',
      type: 'array',
      minItems: 1,
      items: {
        type: ['string', 'object'],
        minLength: 1,
        properties: {
          name: text('File; lowbit: in front names one that ships with the package.'),
          sha256: text('Digest of its bytes.', {
            pattern: '^[0-9a-f]{64}$',
            examples: ['64 hexadecimal digits'],
          }),
        },
        required: ['name'],
        additionalProperties: false,
      },
    },
    samples: { description: 'Samples at most.', type: 'integer', minimum: 1 },
    length: { description: 'Tokens of a sample.', type: 'integer', minimum: 2 },
  },
  additionalProperties: false,
}

/** What a recipe may hold. */
export const SCHEMA: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'lowbit recipe',
  description: 'Modifiers in the order in which they work: transforms, pruning, rounding.',
  type: 'object',
  properties: {
    lowbit: { description: 'Version of this form.', const: 1 },
    modifiers: {
      description: 'Transforms, then pruning, then rounding.',
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        properties: modifiers,
        additionalProperties: false,
        minProperties: 1,
        maxProperties: 1,
      },
    },
    format: text('File format, as compressed-tensors.'),
    'kv-cache': choice(
      'Scales for keys and values in 8 bits; -head: one per head.',
      'fp8',
      'int8',
      'fp8-head',
      'int8-head',
    ),
    calibration,
    seed: { description: 'Seed of what is random.', type: 'integer', minimum: 0 },
    strict: flag('Fallbacks and too little data are errors.'),
    'allow-nonfinite': choice('What becomes of NaN and infinity in weights.', 'zero', 'keep'),
    'all-experts': flag('Every expert sees every calibration token.'),
    'max-shard-bytes': {
      description: 'Longest file of tensors.',
      type: 'integer',
      minimum: 65536,
    },
  },
  required: ['lowbit', 'modifiers'],
  additionalProperties: false,
}
