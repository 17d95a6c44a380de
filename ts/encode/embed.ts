/** Texts to vectors. */
import { LowbitError, quote } from '../error.ts'
import type { Loaded } from '../loaded.ts'
import { checkOptions, listText, textList } from '../option-rules.ts'
import type { EmbedOptions } from '../options.ts'
import { encodeTexts } from './batch.ts'
import { applyDense, normalized } from './dense.ts'
import type { Sentence, Step } from './sentence.ts'

/** One vector per text, in their order. */
export async function embedTexts(
  loaded: () => Loaded,
  texts: string | readonly string[],
  options: EmbedOptions,
): Promise<Float32Array[]> {
  checkOptions('embed', options)
  const list = textList('texts', texts)
  const { info, sentence: read } = loaded()
  const sentence = await read()
  const prompt = promptOf(sentence, options.prompt)
  const fallback = info.causal ? 'lasttoken' : 'mean'
  const own = sentence.pooling.length > 0 ? sentence.pooling : [fallback]
  const framed = list.map((text) => prompt + (sentence.lowerCase ? text.toLowerCase() : text))
  const [first, ...rest] = stepsOf(sentence, options.normalize)
  // Dividing pooled vectors is the core's.
  const normalize = first === 'normalize'
  const steps = first === undefined || normalize ? rest : [first, ...rest]
  const vectors = await encodeTexts(
    loaded,
    framed,
    {
      want: 'vectors',
      pooling: options.pooling === undefined ? own : [options.pooling],
      normalize,
    },
    {
      signal: options.signal,
      onProgress: options.onProgress,
      limit: Math.min(sentence.limit ?? info.context, info.context),
      truncate: options.truncate ?? true,
    },
  )
  return vectors.map((vector) => steps.reduce(through, vector))
}

function through(vector: Float32Array, step: Step): Float32Array {
  return step === 'normalize' ? normalized(vector) : applyDense(step, vector)
}

/** The model's own steps, but for whether vectors have length 1 in the end. */
function stepsOf({ steps }: Sentence, normalize: boolean | undefined): readonly Step[] {
  if (normalize === undefined) return steps
  const last = steps.findLastIndex((step) => step !== 'normalize')
  const before = steps.slice(0, last + 1)
  return normalize ? [...before, 'normalize'] : before
}

function promptOf({ prompts, prompt }: Sentence, asked: string | undefined): string {
  const name = asked ?? prompt
  if (name === undefined) return ''
  const text = Object.hasOwn(prompts, name) ? prompts[name] : undefined
  if (text !== undefined) return text
  if (asked === undefined) return ''
  const known = Object.keys(prompts)
  throw new LowbitError('option', `The model has no prompt ${quote(name)}`, {
    remedy: known.length > 0 ? `use ${listText(known)}` : 'put it in front of the texts yourself',
  })
}
