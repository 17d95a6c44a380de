/**
 * What the files of sentence-transformers beside a model say about its vectors: `modules.json`,
 * the pooling's `config.json`, `Dense` layers (`dense.ts`), `sentence_bert_config.json`, `config_sentence_transformers.json`.
 */
import type { Binding } from '../binding.ts'
import { isObject, type Json, objectOf, textOf } from '../bytes.ts'
import { LowbitError, quote } from '../error.ts'
import { readOptional, type Store } from '../store/store.ts'
import { type Dense, readDense } from './dense.ts'

/** How vectors are made of a model's states. */
export interface Sentence {
  /** Names of poolings whose vectors lie side by side; empty when no file says. */
  readonly pooling: readonly string[]
  /** What pooled vectors go through, in order. */
  readonly steps: readonly Step[]
  /** Longest text in tokens, if it is less than the model's context. */
  readonly limit: number | undefined
  /** Texts are made lower case first. */
  readonly lowerCase: boolean
  /** What is put in front of texts, by name, and the name that counts when none is given. */
  readonly prompts: Readonly<Record<string, string>>
  readonly prompt: string | undefined
}

/** A layer, or the division by the length. */
export type Step = Dense | 'normalize'

const BYTES_MAX = 1 << 20

/** Poolings by their keys in the config, which may name several. */
const POOLING_KEYS: readonly (readonly [key: string, pooling: string])[] = [
  ['pooling_mode_cls_token', 'cls'],
  ['pooling_mode_max_tokens', 'max'],
  ['pooling_mode_mean_tokens', 'mean'],
  ['pooling_mode_mean_sqrt_len_tokens', 'mean_sqrt_len_tokens'],
  ['pooling_mode_weightedmean_tokens', 'weightedmean'],
  ['pooling_mode_lasttoken', 'lasttoken'],
]

/** Reads the files; all of them may be absent. `unsupported` names a module that is not computed. */
export async function readSentence(binding: Binding, store: Store): Promise<Sentence> {
  const modules = await readModules(store)
  let pooling: readonly string[] = []
  const steps: Step[] = []
  for (const { kind, path } of modules) {
    if (kind === 'Pooling') pooling = await readPooling(store, `${path}/config.json`)
    else if (kind === 'Normalize') steps.push('normalize')
    else if (kind === 'Dense') steps.push(await readDense(binding, store, path))
    else if (kind !== 'Transformer') {
      throw new LowbitError('unsupported', `Module ${quote(kind)} after the transformer`, {
        place: `${store.place}/modules.json`,
        remedy: 'computed are Transformer, Pooling, Dense and Normalize',
      })
    }
  }
  const limits = await readJson(store, 'sentence_bert_config.json')
  const prompts = await readJson(store, 'config_sentence_transformers.json')
  const limit = limits['max_seq_length']
  const named = prompts['prompts']
  const prompt = prompts['default_prompt_name']
  return {
    pooling,
    steps,
    limit: typeof limit === 'number' && limit >= 1 ? Math.floor(limit) : undefined,
    lowerCase: limits['do_lower_case'] === true,
    prompts: Object.fromEntries(
      Object.entries(isObject(named) ? named : {}).filter(
        (entry): entry is [string, string] => typeof entry[1] === 'string',
      ),
    ),
    prompt: typeof prompt === 'string' ? prompt : undefined,
  }
}

async function readModules(store: Store): Promise<readonly { kind: string; path: string }[]> {
  const bytes = await readOptional(store, 'modules.json', BYTES_MAX)
  if (!bytes) return []
  const place = `${store.place}/modules.json`
  const { list } = objectOf(`{"list":${textOf(bytes, 'config', place)}}`, 'config', place)
  if (!Array.isArray(list)) throw new LowbitError('config', 'It is not a list', { place })
  const modules: readonly unknown[] = list
  return modules.map((module) => {
    const { type, path } = isObject(module) ? module : {}
    if (typeof type !== 'string' || typeof path !== 'string') {
      throw new LowbitError('config', 'A module has no type or path', { place })
    }
    return { kind: type.slice(type.lastIndexOf('.') + 1), path }
  })
}

async function readPooling(store: Store, name: string): Promise<readonly string[]> {
  const json = await readJson(store, name)
  // Newer versions write one name.
  if (typeof json['pooling_mode'] === 'string') return [json['pooling_mode']]
  return POOLING_KEYS.filter(([key]) => json[key] === true).map(([, pooling]) => pooling)
}

async function readJson(store: Store, name: string): Promise<Json> {
  const bytes = await readOptional(store, name, BYTES_MAX)
  const place = `${store.place}/${name}`
  return bytes ? objectOf(textOf(bytes, 'config', place), 'config', place) : {}
}
