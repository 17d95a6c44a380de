/** The texts that go with a quantized model: its card and its recipe. Nothing in them is a time. */
import { bytesText } from '../bytes.ts'
import type { CalibrationSet } from './calibration.ts'
import type { CorePlan, LayerReport } from './report.ts'
import type { Settings } from './request.ts'

/** What the texts are made from. */
export interface CardFacts {
  /** Name of the source, without folders. */
  readonly name: string
  readonly version: string
  /** Options as they were in effect. */
  readonly settings: Settings
  readonly calibration: CalibrationSet | undefined
  readonly plan: CorePlan
  readonly layers: readonly LayerReport[]
  readonly sourceBytes: number
  readonly bytes: number
  /** README.md of the source, for its licence. */
  readonly sourceCard: string | undefined
}

/** README.md of the output. */
export function cardText(facts: CardFacts): string {
  const { name, version, settings, plan, calibration, sourceBytes, bytes } = facts
  const calibrated = calibration
    ? `${calibration.samples} samples of ${calibration.length} tokens from ${calibration.text}`
    : 'none'
  const rows: readonly (readonly [string, string])[] = [
    ['method', settings.method],
    ['scheme', settings.scheme],
    ['format', settings.format],
    ['calibration', calibrated],
    ['layers quantized', `${plan.layers.length}, ${plan.ignored.length} left as they were`],
    ['bits per weight', `${plan.bitsPerWeight.toFixed(3)} in the quantized layers`],
    ['size', `${bytesText(bytes)}, from ${bytesText(sourceBytes)}`],
    ...errorRows(facts.layers),
  ]
  return `${frontMatter(facts)}# ${name}, quantized

Made from ${name} by [lowbit](https://github.com/lowbit/lowbit) ${version}. The options are in \`recipe.yaml\`; what it leaves out is the default of that version.

| | |
|---|---|
${rows.map(([key, value]) => `| ${key} | ${value} |`).join('\n')}

## What loads it

- lowbit, in Node and in browsers: \`const model = await load('<this folder>')\`
- transformers with compressed-tensors: \`AutoModelForCausalLM.from_pretrained('<this folder>')\`
- vLLM: \`vllm serve <this folder>\`

Measure it against the original with \`lowbit eval <this folder> --reference <original>\`.
`
}

/** recipe.yaml: the options that give these bytes again. */
export function recipeText(facts: CardFacts): string {
  const { settings, calibration, version } = facts
  const recipe = {
    lowbit: version,
    ...settings,
    calibration: calibration
      ? { text: calibration.text, samples: calibration.samples, length: calibration.length }
      : null,
  }
  return yamlText(recipe, '')
}

/** YAML of plain values: JSON's scalars and lists are YAML too. */
function yamlText(value: Readonly<Record<string, unknown>>, indent: string): string {
  return Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .map(([key, item]) => {
      const nested = typeof item === 'object' && item !== null && !Array.isArray(item)
      return nested
        ? `${indent}${key}:\n${yamlText({ ...item }, `${indent}  `)}`
        : `${indent}${key}: ${JSON.stringify(item)}\n`
    })
    .join('')
}

function errorRows(layers: readonly LayerReport[]): readonly (readonly [string, string])[] {
  const errors = layers.map(({ relativeError }) => relativeError)
  const fallbacks = layers.filter(({ fallback }) => fallback !== undefined && fallback !== null)
  const rows: (readonly [string, string])[] = []
  if (errors.length > 0) {
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length
    rows.push(['error of the weights', `${mean.toPrecision(3)} of their size, mean over layers`])
  }
  if (fallbacks.length > 0) {
    rows.push([
      'fallbacks',
      fallbacks.map((layer) => `${layer.name}: ${layer.fallback}`).join('; '),
    ])
  }
  return rows
}

/** The licence line of the source's card counts for what is made from it. */
function frontMatter({ sourceCard, settings }: CardFacts): string {
  const source = /^---\n([\s\S]*?)\n---/.exec(sourceCard ?? '')?.[1] ?? ''
  const kept = source
    .split('\n')
    .filter((line) => /^(license|license_name|license_link):/.test(line))
  const lines = [...kept, 'library_name: lowbit', `tags: [${settings.format}, ${settings.scheme}]`]
  return `---\n${lines.join('\n')}\n---\n\n`
}
