/** What a model's files say about generating: the defaults of sampling and where a text ends. */
import { isObject, type Json, objectOf, textOf } from './bytes.ts'
import type { Checkpoint } from './checkpoint.ts'
import { readOptional } from './store/store.ts'
import type { Tokenizer } from './text/tokenizer.ts'

/** Sampling as a session takes it; what is absent is off. */
export interface Sampling {
  readonly temperature?: number
  readonly topK?: number
  readonly topP?: number
  readonly minP?: number
  readonly repetitionPenalty?: number
}

/** Defaults of one model. */
export interface GenerationDefaults {
  readonly sampling: Sampling
  readonly maxTokens: number | undefined
  /** Every token that ends a text. */
  readonly ends: ReadonlySet<number>
}

const BYTES_MAX = 16 << 20

/** Reads generation_config.json and the end tokens of all three files that may name one. */
export async function readDefaults(
  checkpoint: Checkpoint,
  tokenizer: Tokenizer | undefined,
): Promise<GenerationDefaults> {
  const { store, config } = checkpoint
  const place = `${store.place}/generation_config.json`
  const bytes = await readOptional(store, 'generation_config.json', BYTES_MAX)
  const json = bytes ? objectOf(textOf(bytes, 'config', place), 'config', place) : {}
  const ends = new Set([...endsOf(json), ...endsOf(config?.json ?? {})])
  const end = tokenizer?.id(tokenizer.roles['eos_token'] ?? '')
  if (end !== undefined) ends.add(end)
  return { sampling: samplingOf(json), maxTokens: numberOf(json, 'max_new_tokens', 1), ends }
}

function endsOf(json: Json): number[] {
  const value =
    json['eos_token_id'] ??
    (isObject(json['text_config']) ? json['text_config']['eos_token_id'] : undefined)
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value]
  return ids.filter((id) => typeof id === 'number' && Number.isInteger(id)).map(Number)
}

/** Without `do_sample` the most likely token is taken, whatever else the file holds. */
function samplingOf(json: Json): Sampling {
  const penalty = numberOf(json, 'repetition_penalty', 0.01)
  const repetition = penalty === undefined ? {} : { repetitionPenalty: penalty }
  if (json['do_sample'] !== true) return { temperature: 0, ...repetition }
  const sampling = {
    temperature: numberOf(json, 'temperature', 0) ?? 1,
    topK: numberOf(json, 'top_k', 0),
    topP: numberOf(json, 'top_p', 0),
    minP: numberOf(json, 'min_p', 0),
  }
  const known = Object.entries(sampling).filter(([, value]) => value !== undefined)
  return { ...Object.fromEntries(known), ...repetition }
}

function numberOf(json: Json, key: string, min: number): number | undefined {
  const value = json[key]
  return typeof value === 'number' && Number.isFinite(value) && value >= min ? value : undefined
}
