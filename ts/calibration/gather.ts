/** Sources to candidates: read, clean, tell apart, keep a random part that fits into memory. */
import { throwIfAborted } from '../error.ts'
import type { Host } from '../host.ts'
import type { Meter } from '../progress.ts'
import { cleaned, estimateTokens, plainText, unitsOf } from './clean.ts'
import type { Languages } from './language.ts'
import { passagesIn } from './lines.ts'
import { Seen } from './near.ts'
import { Pool } from './pool.ts'
import { documentsOf, type FileFacts } from './read.ts'
import type { Tally } from './report.ts'
import type { Document } from './rows.ts'
import { TABLE } from './select.ts'
import { quotasOf, type Settings } from './settings.ts'
import type { DataFile } from './source.ts'

/** What gathering works with. */
export interface Gathering {
  readonly host: Host
  readonly settings: Settings
  readonly languages: Languages
  readonly tally: Tally
  readonly report: Meter
  readonly signal: AbortSignal | undefined
}

/** What the sources gave. */
export interface Gathered {
  /** Candidates by language; all under `''` without a mix. */
  readonly pools: ReadonlyMap<string, Pool>
  readonly sources: readonly FileFacts[]
}

/** Characters that make a token, at most as a rule. */
const CHARACTERS_PER_TOKEN = 5
/** A passage that is shorter than this says little about its language. */
const PASSAGE_MIN = 2000

/** Reads all sources once. */
export async function gather(files: readonly DataFile[], gathering: Gathering): Promise<Gathered> {
  const { host, settings, tally, signal } = gathering
  const { field, rows, skipBad, length, seed } = settings
  const sources: FileFacts[] = []
  const pools = new Map<string, Pool>()
  for (const [language, samples] of quotasOf(settings)) {
    const capacity = samples * length * TABLE[settings.select].choice
    pools.set(language, new Pool(capacity, seed, settings.select === 'length'))
  }
  const passage = Math.max(PASSAGE_MIN, length * CHARACTERS_PER_TOKEN)
  const reading = {
    field: field ?? undefined,
    rows: rows ?? undefined,
    skipBad,
    passage,
    sha256: () => host.sha256(),
    onBytes: await byteMeter(files, gathering.report),
  }
  const sieve = new Sieve(gathering)
  for await (const document of documentsOf(files, reading, (facts) => void sources.push(facts))) {
    throwIfAborted(signal)
    tally.read++
    const kept = sieve.pass(document)
    if (!kept) continue
    tally.kept++
    const pool = pools.get(settings.mix ? kept.language : '')
    const whole = estimateTokens(plainText(kept.document.content))
    for (const part of partsOf(kept.document, passage, settings.pack)) {
      pool?.add(part, kept.language, whole)
    }
  }
  return { pools, sources }
}

/**
 * A book that is one row would be one candidate; its passages are many.
 * @yields each passage, or the conversation
 */
function* partsOf(document: Document, passage: number, pack: boolean): Generator<Document> {
  const { content } = document
  if (typeof content !== 'string') yield document
  else {
    for (const text of passagesIn(content, passage)) {
      yield { ...document, content: text }
      if (!pack) return
    }
  }
}

/** Rules of cleaning that leave documents out. */
class Sieve {
  readonly #without: ReadonlySet<string>
  readonly #seen = new Seen()
  readonly #gathering: Gathering

  constructor(gathering: Gathering) {
    this.#gathering = gathering
    this.#without = new Set(gathering.settings.without)
  }

  pass(document: Document): { document: Document; language: string } | undefined {
    const { settings, languages, tally } = this.#gathering
    const clean = cleaned(document, this.#without, tally.change)
    const text = plainText(clean.content)
    const language = languages.identify(text)
    const reasons = {
      short: () => text === '' || unitsOf(text).length < settings.minLength,
      language: () => settings.languages !== null && !settings.languages.includes(language),
      duplicate: () => this.#seen.has(text),
    }
    for (const rule of ['short', 'language', 'duplicate'] as const) {
      if (this.#without.has(rule) || !reasons[rule]()) continue
      tally.drop(rule)
      return undefined
    }
    return text === '' ? undefined : { document: clean, language }
  }
}

/** Reports bytes of all sources whose length is known. */
async function byteMeter(
  files: readonly DataFile[],
  report: Meter,
): Promise<(bytes: number) => void> {
  let total = 0
  for (const { ranges } of files) total += ranges ? await ranges.size() : 0
  let done = 0
  return (bytes) => {
    done += bytes
    report({ stage: 'read', done: Math.min(done, total), total })
  }
}
