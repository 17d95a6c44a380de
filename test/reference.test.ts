import test from 'ava'
import { join } from 'node:path'
import type { Usage } from '../ts/options.ts'
import { NAME, openApi } from './binding.ts'
import { readFixture, worst } from './fixture.ts'
import { NOVELS, ROOT, textOf } from './helpers.ts'

const api = await openApi()
const novels = await readFixture('novels-4m-reference')
const PROMPTS = [0, 1, 2] as const
const TINY = [
  'tiny-llama',
  'tiny-llama-linear',
  'tiny-mistral',
  'tiny-mixtral',
  'tiny-qwen2',
  'tiny-qwen3',
  'tiny-qwen3-moe',
  'tiny-qwen2-moe',
  'tiny-qwen2-window',
  'tiny-gemma2',
  'tiny-gemma3',
  'tiny-phi3',
  'tiny-glm4',
  'tiny-granite',
  'tiny-olmo2',
  'tiny-smollm3',
  'tiny-deepseek-v2',
  'tiny-deepseek-v3',
  'tiny-qwen2-vl',
  'tiny-qwen3-vl',
  'tiny-gemma3-vision',
]

test(`${NAME}: prompts have the reference's tokens, logits and greedy continuations`, async (t) => {
  const model = await api.load(NOVELS, { compute: 'f32', device: 'cpu' })
  for (const i of PROMPTS) {
    const prompt = novels.metadata[`prompt_${i}`] ?? ''
    const tokens = novels.tokens(`prompt_${i}.tokens`)
    t.deepEqual(model.tokenize(prompt), tokens)
    const difference = worst(await model.logits(tokens), novels.floats(`prompt_${i}.logits`))
    t.true(difference < 1e-4, `prompt ${i}: logits differ by ${difference}`)
    const text = model.detokenize(novels.tokens(`prompt_${i}.greedy`))
    const usage: Usage[] = []
    let got = ''
    const options = { maxTokens: 64, temperature: 0, onUsage: (u: Usage) => usage.push(u) }
    for await (const piece of model.generate(prompt, options)) got += piece
    t.is(got, text)
    t.like(usage[0], { promptTokens: tokens.length, completionTokens: 64 })
  }
  await model.dispose()
})

test(`${NAME}: generations at the same time are the reference's`, async (t) => {
  const model = await api.load(NOVELS, { compute: 'f32', device: 'cpu' })
  const texts = PROMPTS.map((i) => {
    return textOf(model.generate(novels.metadata[`prompt_${i}`] ?? '', { maxTokens: 64 }))
  })
  const got = await Promise.all(texts)
  t.deepEqual(
    got,
    PROMPTS.map((i) => model.detokenize(novels.tokens(`prompt_${i}.greedy`))),
  )
  await model.dispose()
})

for (const name of TINY) {
  test(`${NAME}: ${name} has the reference's logits`, async (t) => {
    const fixture = await readFixture(name)
    const model = await api.load(join(ROOT, 'models', name), { compute: 'f32', device: 'cpu' })
    const difference = worst(await model.logits(fixture.tokens('tokens')), fixture.floats('logits'))
    t.true(difference < 1e-4, `logits differ by ${difference}`)
    await model.dispose()
  })
}

test(`${NAME}: sampling with a seed repeats itself`, async (t) => {
  const model = await api.load(NOVELS, { device: 'cpu' })
  const options = { maxTokens: 24, temperature: 1, topK: 40 }
  const sample = (seed: number): Promise<string> =>
    textOf(model.generate('The garden', { ...options, seed }))
  const [one, same, other] = [await sample(1), await sample(1), await sample(2)]
  t.is(one, same)
  t.not(one, other)
  await model.dispose()
})

// The whole text takes wasm too long for every run; a part shows that the figures are the same.
test(`${NAME}: perplexity is the reference's, and a model does not diverge from itself`, async (t) => {
  const options = NAME === 'wasm' ? await shortText() : {}
  const figures = await api.evaluate(NOVELS, { ...options, window: 512, device: 'cpu' })
  if (NAME === 'wasm') {
    const whole = await api.evaluate(NOVELS, {
      ...options,
      window: 512,
      device: 'cpu',
      reference: NOVELS,
    })
    t.is(whole.perplexity, figures.perplexity)
    t.like(whole, { meanKld: 0, p99Kld: 0, sameTop: 1 })
    return
  }
  t.like(figures, {
    tokens: 67_226,
    windows: 131,
    positions: 66_941,
    bytes: 8_399_168,
    compute: 'f32',
  })
  t.true(Math.abs(figures.perplexity / 45.923 - 1) < 0.0002, `${figures.perplexity}`)
})

async function shortText(): Promise<{ text: string }> {
  const { readFile } = await import('node:fs/promises')
  return { text: (await readFile(join(ROOT, 'data/eval.txt'), 'utf8')).slice(0, 8000) }
}
