/** A model's tokenizer: `tokenizer.json`, checked before it is built. */
import { Tokenizer as HuggingFace } from '@huggingface/tokenizers'
import { isObject, type Json, objectOf, textOf } from '../bytes.ts'
import { errorFrom, LowbitError, quote } from '../error.ts'
import type { Hash, Within } from '../host.ts'
import { readOptional, type Store } from '../store/store.ts'
import { checkParts } from './parts.ts'

/** Text to token ids and back. */
export interface Tokenizer {
  /** Ids of a text; `special` adds what the model expects around a text. */
  encode(text: string, special: boolean): Uint32Array
  /**
   * Ids of a text, or of a pair of texts, with what the model expects around them; `second` ids
   * stand before the second text.
   */
  around(first: string, second?: string): { ids: Uint32Array; second: number }
  /** Text of ids; special tokens are left out unless asked for. */
  decode(ids: Iterable<number>, special?: boolean): string
  /** Id of a token, or nothing. */
  id(token: string): number | undefined
  /** How many tokens there are. */
  readonly size: number
  /** Special tokens by their role, as `eos_token`, for chat templates. */
  readonly roles: Readonly<Record<string, string>>
  /** tokenizer_config.json. */
  readonly config: Json
}

/** Longest tokenizer.json that is read; the largest known is about 35 MB. */
const BYTES_MAX = 128 << 20
/** A larger id could only be there to make a reader allocate. */
const ID_MAX = 1 << 24

/** Time for any text, and more for each of its characters: ten times what a slow machine needs. */
const ENCODE_MS = 1000
const ENCODE_MS_PER_CHARACTER = 0.03

/** Opens the tokenizer of a model's folder; nothing when there is none. */
export async function openTokenizer(store: Store, within?: Within): Promise<Tokenizer | undefined> {
  const place = `${store.place}/tokenizer.json`
  const bytes = await readTokenizer(store)
  if (!bytes) return undefined
  const json = objectOf(textOf(bytes, 'tokenizer', place), 'tokenizer', place)
  const config = await readTokenizerConfig(store)
  const size = countIds(json, place)
  checkParts(json, place)
  try {
    return new Opened(new HuggingFace(json, config), { config, size }, within)
  } catch (error) {
    throw tokenizerError(error, place)
  }
}

/** The tokenizer, which text needs. */
export function needTokenizer(tokenizer: Tokenizer | undefined, place: string): Tokenizer {
  if (tokenizer) return tokenizer
  throw new LowbitError('tokenizer', 'There is no tokenizer.json', {
    place,
    remedy: "put the model's tokenizer.json beside its tensors",
  })
}

class Opened implements Tokenizer {
  readonly roles: Readonly<Record<string, string>>
  readonly config: Json
  readonly size: number
  readonly #tokenizer: HuggingFace
  readonly #within: Within

  constructor(
    tokenizer: HuggingFace,
    facts: Pick<Tokenizer, 'config' | 'size'>,
    within: Within = (_, run) => run(),
  ) {
    this.#tokenizer = tokenizer
    this.#within = within
    this.config = facts.config
    this.size = facts.size
    this.roles = rolesOf(facts.config)
  }

  encode(text: string, special: boolean): Uint32Array {
    const time = ENCODE_MS + ENCODE_MS_PER_CHARACTER * text.length
    try {
      const { ids } = this.#within(time, () =>
        this.#tokenizer.encode(text, { add_special_tokens: special }),
      )
      return Uint32Array.from(ids)
    } catch (error) {
      throw tokenizerError(error, `a text of ${text.length} characters`)
    }
  }

  around(first: string, second?: string): { ids: Uint32Array; second: number } {
    const pair = second === undefined ? {} : { text_pair: second }
    try {
      const { ids, token_type_ids: kinds } = this.#tokenizer.encode(first, {
        ...pair,
        add_special_tokens: true,
        return_token_type_ids: true,
      })
      const start = kinds.indexOf(1)
      return { ids: Uint32Array.from(ids), second: start < 0 ? ids.length : start }
    } catch (error) {
      throw tokenizerError(error, `a text of ${first.length} characters`)
    }
  }

  decode(ids: Iterable<number>, special = false): string {
    const list = Array.from(ids)
    // The library refuses an empty list.
    if (list.length === 0) return ''
    try {
      // Cleaning would change spaces between pieces that have already been given out.
      const options = { skip_special_tokens: !special, clean_up_tokenization_spaces: false }
      return this.#tokenizer.decode(list, options)
    } catch (error) {
      throw tokenizerError(error, `${list.length} token ids`)
    }
  }

  id(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token)
  }
}

/** SHA-256 of a folder's tokenizer.json, which tells two tokenizers apart. */
export async function tokenizerDigest(store: Store, hash: Hash): Promise<string> {
  hash.update((await readTokenizer(store)) ?? new Uint8Array(0))
  return hash.hex()
}

async function readTokenizer(store: Store): Promise<Uint8Array | undefined> {
  try {
    return await readOptional(store, 'tokenizer.json', BYTES_MAX)
  } catch (thrown) {
    const error = errorFrom(thrown, 'io')
    throw error.code === 'unsupported' ? new LowbitError('tokenizer', error.message) : error
  }
}

async function readTokenizerConfig(store: Store): Promise<Json> {
  const place = `${store.place}/tokenizer_config.json`
  const bytes = await readOptional(store, 'tokenizer_config.json', BYTES_MAX)
  return bytes ? objectOf(textOf(bytes, 'tokenizer', place), 'tokenizer', place) : {}
}

function rolesOf(config: Json): Record<string, string> {
  const roles: Record<string, string> = {}
  for (const [key, value] of Object.entries(config)) {
    if (!key.endsWith('_token')) continue
    const token = isObject(value) ? value['content'] : value
    if (typeof token === 'string') roles[key] = token
  }
  return roles
}

/** Ids become indices of arrays: each is checked, and how many there are is returned. */
function countIds(json: Json, place: string): number {
  const model = json['model']
  if (!isObject(model)) throw new LowbitError('tokenizer', 'There is no model', { place })
  const ids = new Set<unknown>()
  const add = (token: unknown, id: unknown): void => {
    checkId(token, id, place)
    ids.add(id)
  }
  const added = Array.isArray(json['added_tokens']) ? json['added_tokens'] : []
  for (const token of added) add(isObject(token) ? token['content'] : '', token?.id)
  const { vocab } = model
  // A unigram model lists its pieces, each at its id.
  if (Array.isArray(vocab)) for (const id of vocab.keys()) ids.add(id)
  else if (isObject(vocab)) for (const [token, id] of Object.entries(vocab)) add(token, id)
  return ids.size
}

function checkId(token: unknown, id: unknown, place: string): void {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id <= ID_MAX) return
  throw new LowbitError('tokenizer', `Token ${quote(String(token))} has id ${JSON.stringify(id)}`, {
    place,
    remedy: `ids are whole numbers up to ${ID_MAX}`,
  })
}

function tokenizerError(error: unknown, place: string): LowbitError {
  const why = error instanceof Error ? error.message : String(error)
  return new LowbitError('tokenizer', `The tokenizer failed: ${why}`, { place, cause: error })
}
