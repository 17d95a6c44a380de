import test from 'ava'
import { createApi } from '../ts/api.ts'
import { nodeHost } from '../ts/host.node.ts'
import type { Model } from '../ts/model.ts'
import type { Usage } from '../ts/options.ts'
import { fsStore } from '../ts/store/fs.ts'
import { memoryStore } from '../ts/store/memory.ts'
import { type Fake, fakeBinding } from './fake-binding.ts'
import { failsWith, NOVELS } from './helpers.ts'

type Files = Readonly<Record<string, object>>

/** The novels model over the fake binding, with some of its JSON files changed. */
async function fakeModel(fake: Fake = {}, changed: Files = {}): Promise<Model> {
  const source = fsStore(NOVELS)
  const names = await source.list()
  const store = memoryStore(
    await Promise.all(
      names.map(async (name) => {
        const json = changed[name]
        const bytes = json
          ? new TextEncoder().encode(JSON.stringify(json))
          : await source.read(name)
        return [name, bytes] as const
      }),
    ),
  )
  return createApi(fakeBinding({ context: 1024, ...fake }), nodeHost).load(store)
}

async function textOf(
  pieces: AsyncGenerator<string, Usage, undefined>,
): Promise<{ text: string; usage: Usage }> {
  let text = ''
  for (;;) {
    const { value, done } = await pieces.next()
    if (done) return { text, usage: value }
    text += value
  }
}

const config = {}
const tokenizer_config = {}
const noEnds: Files = {
  'config.json': config,
  'generation_config.json': {},
  'tokenizer_config.json': tokenizer_config,
}

test('generate: stops at every end token of the three files that name one', async (t) => {
  const files: readonly Files[] = [
    { ...noEnds, 'config.json': { eos_token_id: 500 } },
    { ...noEnds, 'config.json': { eos_token_id: [499, 500] } },
    { ...noEnds, 'generation_config.json': { eos_token_id: [500] } },
    { ...noEnds, 'tokenizer_config.json': { eos_token: { content: '<|im_end|>' } } },
  ]
  for (const changed of files) {
    const end = changed['tokenizer_config.json'] === tokenizer_config ? 500 : 2
    const model = await fakeModel({ script: [300, 301, end, 302] }, changed)
    const { text, usage } = await textOf(model.generate('Hello'))
    t.is(text, model.detokenize([300, 301]))
    t.like(usage, { completionTokens: 3, finishReason: 'stop' })
  }
})

test('generate: ends at maxTokens and reports usage once', async (t) => {
  const model = await fakeModel({ script: [300] }, noEnds)
  const heard: Usage[] = []
  const pieces = model.generate('Hello', { maxTokens: 5, onUsage: (usage) => heard.push(usage) })
  const { usage } = await textOf(pieces)
  t.like(usage, {
    promptTokens: model.tokenize('Hello').length,
    completionTokens: 5,
    finishReason: 'length',
  })
  t.deepEqual(heard, [usage])
})

test('generate: a stop string is cut off wherever tokens end', async (t) => {
  const fox = await fakeModel()
  const script = [...fox.tokenize(' and then the end of it')]
  const model = await fakeModel({ script }, noEnds)
  const { text, usage } = await textOf(model.generate('Hello', { stop: ['he e', 'zzz'] }))
  t.is(text, ' and then t')
  t.is(usage.finishReason, 'stop')
})

test('generate: refuses what does not fit into the context before it begins', async (t) => {
  const requests: string[] = []
  const model = await fakeModel({ context: 16, onRequest: (name) => requests.push(name) }, noEnds)
  const first = (prompt: string, maxTokens?: number): Promise<unknown> =>
    model.generate(prompt, { maxTokens }).next()
  const error = await failsWith(t, 'context', () => first('Hello', 16))
  t.regex(
    error.message,
    /1 tokens of prompt and 16 to generate do not fit into 16; ask for at most 15|do not fit/,
  )
  await failsWith(t, 'context', () => first('Hello '.repeat(50)))
  await failsWith(t, 'context', () => model.logits(new Uint32Array(17)))
  t.false(requests.includes('session'))
})

test('generate: sampling comes from the caller, then generation_config.json, then greedy', async (t) => {
  const seen: Record<string, unknown>[] = []
  const onRequest = (name: string, request: Record<string, unknown>): void => {
    if (name === 'session') seen.push(request)
  }
  const sampled = {
    do_sample: true,
    temperature: 0.6,
    top_p: 0.95,
    top_k: 20,
    repetition_penalty: 1.1,
  }
  const model = await fakeModel({ onRequest }, { ...noEnds, 'generation_config.json': sampled })
  await textOf(model.generate('Hello', { maxTokens: 1, topK: 5, seed: 3 }))
  t.like(seen[0], { temperature: 0.6, topP: 0.95, topK: 5, repetitionPenalty: 1.1, seed: 3 })

  const greedy = await fakeModel(
    { onRequest },
    { ...noEnds, 'generation_config.json': { temperature: 0.6, top_k: 9 } },
  )
  await textOf(greedy.generate('Hello', { maxTokens: 1 }))
  t.is(seen[1]?.['temperature'], 0)
  t.false('topK' in (seen[1] ?? {}))
  await textOf(greedy.generate('Hello', { maxTokens: 1, topP: 0.5 }))
  t.like(seen[2], { temperature: 1, topP: 0.5 })
})

test('generate: messages go through the chat template, once', async (t) => {
  const model = await fakeModel()
  const messages = [{ role: 'user', content: 'Hello' }]
  const { usage } = await textOf(model.generate(messages, { maxTokens: 1 }))
  const prompt = '<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n'
  t.is(usage.promptTokens, model.tokenize(prompt).length)
})

test('generate: an aborted call throws aborted, a left one closes its session', async (t) => {
  const binding = fakeBinding({ context: 1024 })
  const closed: number[] = []
  const spied = { ...binding, close: async (handle: number) => void closed.push(handle) }
  const model = await createApi(spied, nodeHost).load(NOVELS)
  const abort = new AbortController()
  const pieces = model.generate('Hello', { signal: abort.signal })
  await pieces.next()
  abort.abort()
  await failsWith(t, 'aborted', () => pieces.next())
  t.is(closed.length, 1)
  for await (const piece of model.generate('Hello')) if (piece !== '') break
  t.is(closed.length, 2)
})

test('generate: two at once do not disturb each other', async (t) => {
  const model = await fakeModel({ script: [300, 301, 302, 303] }, noEnds)
  const [one, two] = [
    model.generate('Hello', { maxTokens: 8 }),
    model.generate('Bye', { maxTokens: 8 }),
  ]
  const [first, second] = await Promise.all([textOf(one), textOf(two)])
  t.is(first.text, second.text)
})

test('generate: wrong calls have codes', async (t) => {
  const model = await fakeModel()
  await failsWith(t, 'option', () => model.generate('').next())
  await failsWith(t, 'option', () => model.generate('a', { stop: [''] }).next())
  await failsWith(t, 'option', () => model.logits(Uint32Array.of(99_999)))
  const bare = await fakeModel({}, { 'tokenizer_config.json': {} })
  t.is(typeof bare.tokenize('a').length, 'number')
  await model.dispose()
  await model.dispose()
  await failsWith(t, 'option', () => model.generate('a').next())
})
