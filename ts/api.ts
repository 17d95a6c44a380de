/**
 * The whole surface over one binding. Nothing is kept in modules, so that two bindings can live
 * in one process and a test can hand in its own.
 */
import type { Binding } from './binding.ts'
import type { CalibrateReport } from './calibration/report.ts'
import { type CalibrationSource, sourceList } from './calibration/source.ts'
import { convertModel } from './convert/convert.ts'
import { refuseGguf } from './convert/gguf.ts'
import type { ConvertReport } from './convert/report.ts'
import { errorFrom } from './error.ts'
import { type Evaluation, evaluateModel } from './evaluate/evaluate.ts'
import { withTexts } from './gguf.ts'
import type { Host, Reading, Source } from './host.ts'
import { type ImatrixReport, makeImatrix } from './imatrix.ts'
import { inspectSource, type Inspection } from './inspect.ts'
import { loadModel, type Model } from './model.ts'
import { checkOptions } from './option-rules.ts'
import type {
  CalibrateOptions,
  ConvertOptions,
  EvaluateOptions,
  ImatrixOptions,
  LoadOptions,
  QuantizeOptions,
  RunOptions,
} from './options.ts'
import { quantizeModel } from './quantize/quantize.ts'
import type { QuantizeReport } from './quantize/report.ts'
import { PRESETS } from './recipe/presets.ts'
import type { Store } from './store/store.ts'
import { textOf } from './bytes.ts'

/** A model's folder, address or file, its name on the hub (`owner/name@revision`), or a store. */
export type Place = string | Store

/** A format of this build. */
export interface CatalogFormat {
  readonly name: string
  readonly about: string
  readonly read: boolean
  readonly write: boolean
  /** Schemes of every kind that it holds; `gpu` where there is a shader. */
  readonly schemes: readonly {
    readonly name: string
    readonly read: boolean
    readonly write: boolean
    readonly gpu: boolean
  }[]
}

/** What this build can do, as the core says. */
export interface Catalog {
  readonly version: string
  readonly host: {
    readonly arch: string
    readonly isa: string
    readonly isas: readonly string[]
    readonly [key: string]: unknown
  }
  readonly methods: readonly { name: string; about: string; needsCalibration: boolean }[]
  readonly formats: readonly CatalogFormat[]
  readonly architectures: readonly { name: string; modelTypes: readonly string[] }[]
  readonly schemes: readonly unknown[]
  /** llm-compressor's names for schemes. */
  readonly presets: readonly { name: string; scheme: string }[]
  /** Mixes that GGUF files are written in. */
  readonly ggufSchemes: readonly string[]
  readonly codes: readonly { name: string; about: string }[]
  /** Recipes that ship with the package. */
  readonly recipes: readonly { name: string; about: string }[]
}

/** The functions of this package. */
export interface Lowbit {
  /**
   * Makes a checkpoint smaller. With nothing but `out`: GPTQ, 4 bits in groups of 128, symmetric,
   * compressed-tensors, calibrated on a text that ships with the package. An unfinished run with
   * the same input and options is gone on with. Throws `output-path`, `resume-mismatch`,
   * `disk-full`, `scheme`, `aborted` and what the checkpoint deserves.
   *
   * @example
   * const report = await quantize('./model', { out: './model-w4' })
   */
  readonly quantize: (model: Place, options: QuantizeOptions) => Promise<QuantizeReport>
  /**
   * Takes a checkpoint from one format to another: exactly where the format holds its values, by
   * rounding where a scheme is asked for, and the report says which. A LoRA adapter is merged on
   * the way. Throws `scheme` naming the first layer that does not fit, `unsupported`,
   * `output-path`, `resume-mismatch`, `aborted`.
   *
   * @example
   * const { exact, rounded } = await convert('./model-awq', {
   *   out: './model-gptq',
   *   format: 'gptq-v2',
   * })
   */
  readonly convert: (model: Place, options: ConvertOptions) => Promise<ConvertReport>
  /**
   * Makes a calibration set of files, folders, addresses, data sets by name, stores or bytes:
   * cleans and counts the texts, chooses samples among them, and writes them with a manifest. The
   * same call writes the same bytes. Throws `dataset` naming file and line, `not-found`,
   * `output-path`, `template`, `aborted`.
   *
   * @example
   * const { languages } = await calibrate(['./chats.jsonl', './books'], {
   *   out: './set.jsonl',
   *   model: './model',
   *   mix: { en: 0.5, zh: 0.5 },
   * })
   */
  readonly calibrate: (
    sources: CalibrationSource | readonly CalibrationSource[],
    options?: CalibrateOptions,
  ) => Promise<CalibrateReport>
  /**
   * Collects an importance matrix for GGUF: runs a calibration set through a model, or merges files
   * without one. Throws `imatrix`, `dataset`, `output-path`, `aborted`.
   *
   * @example
   * await imatrix('./model', { out: 'model.imatrix.gguf', calibration: 'set.jsonl' })
   */
  readonly imatrix: (model: Place | undefined, options: ImatrixOptions) => Promise<ImatrixReport>
  /**
   * Loads a checkpoint, quantized or not, to run it. Throws `config`, `missing-tensor`, `qparam`,
   * `no-device`, `aborted` and what the checkpoint deserves.
   *
   * @example
   * const model = await load('./model-w4', { device: 'auto' })
   */
  readonly load: (model: Place, options?: LoadOptions) => Promise<Model>
  /**
   * Describes a checkpoint from its headers: format, schemes, bits per weight, every tensor.
   *
   * @example
   * const { bitsPerWeight } = await inspect('./model-w4')
   */
  readonly inspect: (model: Place) => Promise<Inspection>
  /**
   * Perplexity on a text and, with `reference`, the divergence from the original. A model that
   * is named by its place is loaded in `f32` for the call.
   *
   * @example
   * const { perplexity } = await evaluate(model, { text, window: 512 })
   */
  readonly evaluate: (model: Place | Model, options?: EvaluateOptions) => Promise<Evaluation>
  /** Methods, formats, architectures and error codes of this build. */
  readonly catalog: () => Promise<Catalog>
}

/** Joins a binding and a host to the functions of this package. */
export function createApi(binding: Binding, host: Host): Lowbit {
  const source = async (place: Place, reading: Reading = {}): Promise<Source> =>
    typeof place === 'string' ? host.source(place, reading) : { store: place }

  const load: Lowbit['load'] = async (place, options = {}) => {
    checkOptions('load', options)
    return loadModel(binding, host, await source(place, options), options)
  }

  const api: Lowbit = {
    load,
    async quantize(place, options) {
      checkOptions('quantize', options)
      refuseGguf(options)
      // A plan reads headers only.
      const from = await source(place, { ...options, headers: options.dryRun })
      return quantizeModel(binding, host, from, options)
    },
    async convert(place, options) {
      checkOptions('convert', options)
      const { lora } = options
      const adapter = lora === undefined ? undefined : await source(lora, options)
      const from = await source(place, { ...options, headers: options.dryRun })
      return convertModel({ binding, host }, from, options, adapter)
    },
    async calibrate(sources, options = {}) {
      const { model, signal } = options
      // What cleans and tells languages is loaded by those who need it.
      const { makeSet } = await import('./calibration/calibrate.ts')
      const parts = { host, version: (await catalogOf(binding)).version }
      const named =
        model === undefined ? undefined : await withTexts(binding, await source(model, options))
      const opened = named && {
        source: named,
        load: () => load(model ?? '', { compute: 'f32', device: 'cpu', signal }),
      }
      const made = { ...parts, ...(opened ? { model: opened } : {}) }
      return makeSet(made, sourceList(sources), options)
    },
    async imatrix(place, options) {
      const from = place === undefined ? undefined : await source(place, options)
      return imatrixOf(binding, host, from, options)
    },
    inspect: async (place) => inspectSource(binding, await source(place, { headers: true })),
    evaluate: (model, options = {}) => evaluateWith(load, host, model, options),
    catalog: () => catalogOf(binding),
  }
  return {
    load: typed(api.load),
    imatrix: typed(api.imatrix),
    quantize: typed(api.quantize),
    convert: typed(api.convert),
    calibrate: typed(api.calibrate),
    inspect: typed(api.inspect),
    evaluate: typed(api.evaluate),
    catalog: typed(api.catalog),
  }
}

async function evaluateWith(
  load: Lowbit['load'],
  host: Host,
  model: Place | Model,
  options: EvaluateOptions,
): Promise<Evaluation> {
  checkOptions('evaluate', options)
  const loaded: Model[] = []
  try {
    const { reference, kvCache, ...same } = options
    const own = await loadedFor(model, { ...same, kvCache }, { load, loaded })
    const other =
      reference === undefined ? undefined : await loadedFor(reference, same, { load, loaded })
    const text = options.text ?? textOf(await host.bundled('eval.txt'), 'dataset', 'eval.txt')
    return await evaluateModel(own, { ...options, text, reference: other })
  } finally {
    for (const one of loaded) await one.dispose()
  }
}

/** Collects on the CPU in f32, whatever the model is. */
async function imatrixOf(
  binding: Binding,
  host: Host,
  from: Source | undefined,
  options: ImatrixOptions,
): Promise<ImatrixReport> {
  const { threads, isa, signal, onProgress } = options
  const run = { device: 'cpu', compute: 'f32', threads, isa, signal, onProgress } as const
  const model = from && {
    source: await withTexts(binding, from),
    place: from.store.place,
    load: () => loadModel(binding, host, from, run),
  }
  return makeImatrix({ binding, host, model }, options)
}

async function catalogOf(binding: Binding): Promise<Catalog> {
  const catalog: Omit<Catalog, 'recipes'> = JSON.parse(await binding.catalog())
  return { ...catalog, recipes: PRESETS.map(({ name, about }) => ({ name, about })) }
}

/** Nothing but a `LowbitError` leaves. */
function typed<A extends unknown[], R>(
  run: (...args: A) => Promise<R>,
): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return await run(...args)
    } catch (error) {
      throw errorFrom(error)
    }
  }
}

interface Loading {
  readonly load: Lowbit['load']
  /** Models that were loaded for one call. */
  readonly loaded: Model[]
}

/** A model as it is, or one loaded from its place for this call. */
async function loadedFor(
  model: Place | Model,
  options: EvaluateOptions,
  { load, loaded }: Loading,
): Promise<Model> {
  if (isModel(model)) return model
  const { device, gpuLayers, threads, isa, signal, onProgress, kvCache } = options
  const run: RunOptions = { device, compute: options.compute ?? 'f32', gpuLayers, threads, isa }
  const one = await load(model, { ...run, signal, onProgress, kvCache })
  loaded.push(one)
  return one
}

function isModel(model: Place | Model): model is Model {
  return typeof model === 'object' && 'generate' in model
}
