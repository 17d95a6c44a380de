/** Makes a calibration set: gather, encode, choose, report, save. */
import type { Json } from '../bytes.ts'
import { errorFrom, LowbitError, throwIfAborted } from '../error.ts'
import type { Host, Source } from '../host.ts'
import type { Model } from '../model.ts'
import { checkOptions } from '../option-rules.ts'
import type { CalibrateOptions } from '../options.ts'
import { type Meter, meter } from '../progress.ts'
import { openTemplate } from '../text/chat.ts'
import { needTokenizer, openTokenizer, tokenizerDigest } from '../text/tokenizer.ts'
import { gather, type Gathered } from './gather.ts'
import { openLanguages } from './language.ts'
import {
  documentSamples,
  type Encoder,
  packedSamples,
  type Sample,
  renderedText,
  startOf,
} from './pack.ts'
import type { Candidate } from './pool.ts'
import {
  type CalibrateReport,
  coverageOf,
  languageShares,
  recordOf,
  spreadOf,
  Tally,
} from './report.ts'
import type { Document } from './rows.ts'
import { checkTarget, saveSet, setText, type Target } from './save.ts'
import { perplexities } from './score.ts'
import { select } from './select.ts'
import { quotasOf, type Settings, settingsOf } from './settings.ts'
import { type CalibrationSource, dataFiles } from './source.ts'

/** What a call works with. */
export interface Parts {
  readonly host: Host
  readonly version: string
  /** The model's folder, if one was named, and the way to load it. */
  readonly model?: { readonly source: Source; readonly load: () => Promise<Model> }
}

interface Run extends Parts {
  readonly settings: Settings
  readonly tally: Tally
  readonly notes: string[]
  readonly report: Meter
  readonly signal: AbortSignal | undefined
}

/** Samples, and what they scored where a model chose them. */
interface Chosen {
  readonly samples: readonly Sample[]
  readonly scores: readonly number[]
}

/** Reads the sources once and writes a set; `dataset` when they give no sample. */
export async function makeSet(
  parts: Parts,
  sources: readonly CalibrationSource[],
  options: CalibrateOptions,
): Promise<CalibrateReport> {
  checkOptions('calibrate', options)
  const begun = performance.now()
  const { signal } = options
  const settings = settingsOf(options)
  const run: Run = {
    ...parts,
    settings,
    tally: new Tally(),
    notes: [],
    report: meter(options),
    signal,
  }
  const languages = await openLanguages()
  settings.languages?.forEach(languages.check)
  const encoder = await openEncoder(run)
  const files = await dataFiles(parts.host, sources)
  const target = targetOf(parts.host, options)
  const places = files.map(({ place }) => place)
  if (target) await checkTarget(target, places, options.force ?? false)
  const gathered = await gather(files, { ...run, languages })
  const chosen = await choose(run, gathered, encoder)
  if (chosen.samples.length === 0) throw nothing(run)
  const facts = factsOf(run, { gathered, chosen, encoder })
  const manifest = target ? await save(run, { target, chosen, facts }) : null
  return {
    out: target ? `${target.store.place}/${target.file}` : null,
    manifest,
    ...facts,
    seconds: (performance.now() - begun) / 1000,
  }
}

function targetOf(host: Host, { out }: CalibrateOptions): Target | undefined {
  if (out === undefined) return undefined
  return typeof out === 'string' ? host.folder(out) : { store: out, file: 'set.jsonl' }
}

async function openEncoder(run: Run): Promise<Encoder | undefined> {
  const { host, model, settings, tally } = run
  if (!model) return undefined
  const { store } = model.source
  const tokenizer = needTokenizer(await openTokenizer(store, host.within), store.place)
  const template = await openTemplate(store, tokenizer)
  const render = (document: Document): string | undefined => {
    try {
      return renderedText(document, template)
    } catch (thrown) {
      const error = errorFrom(thrown)
      if (error.code !== 'template' && error.code !== 'option') throw error
      // A conversation that the template refuses is a bad row like any other.
      if (template && settings.skipBad) tally.drop('template')
      else throw new LowbitError(error.code, `${document.place}: ${error.message}`)
      return undefined
    }
  }
  return { tokenizer, render, start: startOf(tokenizer) }
}

/** The set, language by language; any beginning of it has the same mix. */
async function choose(
  run: Run,
  { pools }: Gathered,
  encoder: Encoder | undefined,
): Promise<Chosen> {
  const { settings, notes } = run
  const ranked: { sample: Sample; score: number | undefined; rank: number }[] = []
  for (const [language, wanted] of quotasOf(settings)) {
    if (wanted === 0) continue
    throwIfAborted(run.signal)
    const candidates = pools.get(language)?.candidates() ?? []
    const samples = [...samplesOf(run, candidates, encoder)]
    const scores = await scoresOf(run, samples)
    const tokens = wanted * settings.length
    const chosen = select(samples, settings.select, { tokens, scores })
    const found = chosen.reduce((sum, { length }) => sum + length, 0)
    if (found < tokens) {
      const where = language === '' ? '' : ` in ${language}`
      notes.push(
        `The sources give ${Math.floor(found / settings.length)} of ${wanted} samples${where}`,
      )
    }
    const scored = new Map(samples.map((sample, i) => [sample, scores[i]]))
    for (const [i, sample] of chosen.entries()) {
      ranked.push({ sample, score: scored.get(sample), rank: (i + 0.5) / chosen.length })
    }
  }
  const order = ranked.toSorted((a, b) => a.rank - b.rank)
  return {
    samples: order.map(({ sample }) => sample),
    scores: order.flatMap(({ score }) => score ?? []),
  }
}

function* samplesOf(
  run: Run,
  candidates: readonly Candidate[],
  encoder: Encoder | undefined,
): Generator<Sample> {
  const { settings, tally, report } = run
  const { length, pack } = settings
  let done = 0
  const packing = {
    length,
    pack,
    onDocument(tokens: number) {
      tally.lengths.push(tokens)
      throwIfAborted(run.signal)
      report({ stage: 'tokenize', done: ++done, total: candidates.length })
    },
    onShort: () => tally.drop('shorter than a sample'),
  }
  if (encoder) yield* packedSamples(candidates, encoder, packing)
  else yield* documentSamples(candidates, packing)
}

async function scoresOf(run: Run, samples: readonly Sample[]): Promise<readonly number[]> {
  if (run.settings.select !== 'perplexity' || !run.model) return []
  const model = await run.model.load()
  try {
    return await perplexities(model, samples, run)
  } finally {
    await model.dispose()
  }
}

function nothing({ tally, settings }: Run): LowbitError {
  const found = tally.lengths.reduce((sum, length) => sum + length, 0)
  const reasons = Object.entries(recordOf(tally.dropped)).map(([why, count]) => `${count} ${why}`)
  const dropped = reasons.length > 0 ? ` (left out: ${reasons.join(', ')})` : ''
  return new LowbitError(
    'dataset',
    `${tally.read} documents${dropped} give ${found} tokens, less than a sample of ${settings.length}`,
    { remedy: 'give more text, shorter samples, or leave a cleaning rule out with without' },
  )
}

type Facts = Omit<CalibrateReport, 'out' | 'manifest' | 'seconds'>

function factsOf(
  { settings, tally, notes }: Run,
  made: { gathered: Gathered; chosen: Chosen; encoder: Encoder | undefined },
): Facts {
  const { samples, scores } = made.chosen
  const { encoder } = made
  return {
    samples: samples.length,
    length: settings.length,
    tokens: samples.reduce((sum, { length }) => sum + length, 0),
    exact: encoder !== undefined,
    documents: { read: tally.read, kept: tally.kept, candidates: tally.lengths.length },
    changed: recordOf(tally.changed),
    dropped: recordOf(tally.dropped),
    languages: languageShares(samples),
    lengths: spreadOf(tally.lengths),
    coverage: encoder ? coverageOf(samples, encoder.tokenizer.size) : null,
    perplexity: spreadOf(scores),
    sources: made.gathered.sources,
    notes,
  }
}

async function save(
  run: Run,
  { target, chosen, facts }: { target: Target; chosen: Chosen; facts: Facts },
): Promise<string> {
  const { host, model, settings, version } = run
  const tokenizer = model && (await tokenizerDigest(model.source.store, host.sha256()))
  const { samples, length, tokens, sources, ...figures } = facts
  const manifest = (sha256: string): Json => ({
    lowbit: version,
    set: { file: target.file, samples, length, tokens, sha256 },
    model: tokenizer === undefined ? null : { tokenizer },
    options: settings,
    sources,
    report: figures,
  })
  return saveSet(target, setText(chosen.samples), { manifest, hash: host.sha256() })
}
