/** What callers may ask for; `option-rules.ts` refuses anything else. */
import type { CalibrationSource } from './calibration/source.ts'
import type { Rule, Strategy } from './calibration/names.ts'
import type { Model } from './model.ts'
import type { Store } from './store/store.ts'
import type { Watching } from './watching.ts'

/** How a model runs. */
export interface RunOptions {
  /** Where to run; `auto` takes a GPU where one is fast. Default `auto`. */
  readonly device?: 'auto' | 'cpu' | 'gpu' | undefined
  /** `f32` is the reference, `int8` rounds activations for speed. Default `auto`. */
  readonly compute?: 'auto' | 'f32' | 'int8' | undefined
  /** How many of the last blocks the GPU holds; all that fit by default. */
  readonly gpuLayers?: number | undefined
  /** CPU threads; all by default. Results do not depend on it. */
  readonly threads?: number | undefined
  /** Instruction set; the best of this machine by default. */
  readonly isa?: string | undefined
}

/** Options of `load`. */
export interface LoadOptions extends RunOptions, Watching {
  /** Longest sequence in tokens; the model's own limit by default. */
  readonly context?: number | undefined
  /** Round keys and values in the cache, as engines do; on the CPU. As they are by default. */
  readonly kvCache?: 'fp8' | 'int8' | undefined
}

/** Options of `quantize`. */
export interface QuantizeOptions extends Watching {
  /** Folder to write, or a store. */
  readonly out: string | Store
  /**
   * A preset's name, a file, a text or an object: modifiers in order, as in README. Options that
   * are given beside it win over what it says; `method` is its own.
   */
  readonly recipe?: string | object | undefined
  /** Rounding method, or `awq` or `smoothquant` with the rounder that suits. Default `gptq`. */
  readonly method?: string | undefined
  /** Bits, group and symmetry, as in `w4g128-asym`. Default `w4g128`. */
  readonly scheme?: string | undefined
  /** File format; the first that holds the schemes by default, `compressed-tensors` for integers. */
  readonly format?: string | undefined
  /** Sources of calibration text, as a set of `calibrate`; a public-domain text by default. */
  readonly calibration?: CalibrationSource | readonly CalibrationSource[] | undefined
  /** Calibration samples. Default 128. */
  readonly samples?: number | undefined
  /** Tokens of a sample. Default 512. */
  readonly length?: number | undefined
  /** Modules to leave alone, by name or as `re:` and a regular expression. */
  readonly ignore?: readonly string[] | undefined
  /** Schemes for some modules: pairs of pattern and scheme, the first match wins. */
  readonly layers?: readonly (readonly [pattern: string, scheme: string])[] | undefined
  /** Bits per weight of the quantized layers that schemes are chosen for. */
  readonly targetBpw?: number | undefined
  /** Schemes to choose from then. Default `w3g128`, `w4g128` and `w8g128`. */
  readonly candidates?: readonly string[] | undefined
  /** Zero weights before rounding. */
  readonly prune?: 'magnitude' | 'wanda' | 'sparsegpt' | undefined
  /** Share of weights to prune, or `n:m` for n of every m neighbours. Default `2:4`. */
  readonly sparsity?: number | string | undefined
  /** How a group's range is chosen. Default `mse` for GPTQ, `minmax` otherwise. */
  readonly observer?: 'minmax' | 'mse' | 'imatrix-mse' | undefined
  /** An importance matrix, of lowbit or llama.cpp: ranges are searched with it, without a text. */
  readonly imatrix?: string | undefined
  /** GPTQ: the order of columns. Default `static`. */
  readonly actOrder?: 'static' | 'gar' | 'group' | 'off' | undefined
  /** Later layers of a block are calibrated on its earlier ones after rounding. Default false. */
  readonly trueSequential?: boolean | undefined
  /** Fallbacks and too little data are errors. Default false. */
  readonly strict?: boolean | undefined
  /** What becomes of NaN and infinity in weights; an error by default. */
  readonly allowNonfinite?: 'zero' | 'keep' | undefined
  /** Every expert sees every calibration token. Default true. */
  readonly allExperts?: boolean | undefined
  /** GPTQ: part of the mean diagonal added to the Hessian. Default 0.01. */
  readonly damp?: number | undefined
  /** GPTQ: columns between lazy updates. Default 128. */
  readonly block?: number | undefined
  /** GPTQ: how often scales and codes are refined after rounding. Default 3. */
  readonly refine?: number | undefined
  /** Data type of scales, `F32`, `F16` or `BF16` in any case; the weights' own by default. */
  readonly scaleDtype?: string | undefined
  /** Calibrate scales for engines that keep keys and values in 8 bits; `-head`: one per head. */
  readonly kvCache?: 'fp8' | 'int8' | 'fp8-head' | 'int8-head' | undefined
  /** Seed of what is random. Default 0. */
  readonly seed?: number | undefined
  /** Where calibration does its sums; `gpu` in Node only. Default `auto`: the CPU. */
  readonly device?: 'auto' | 'cpu' | 'gpu' | undefined
  /** Calibration runs in `f32`. */
  readonly compute?: 'auto' | 'f32' | 'int8' | undefined
  /** CPU threads; all by default. The bytes written do not depend on it. */
  readonly threads?: number | undefined
  /** Instruction set; the best of this machine by default. */
  readonly isa?: string | undefined
  /** Longest output file in bytes. Default 5 GB. */
  readonly maxShardBytes?: number | undefined
  /** Forget an unfinished run instead of going on with it. Default false. */
  readonly fresh?: boolean | undefined
  /** Replace a model that is already there. Default false. */
  readonly force?: boolean | undefined
  /** Stop at the plan and write nothing. Default false. */
  readonly dryRun?: boolean | undefined
  /** Text to go on from, before and after, for the report and the card; true for three prompts. */
  readonly compareText?: boolean | readonly string[] | undefined
}

/** Options of `convert`. */
export interface ConvertOptions extends Watching {
  /** Folder to write, a .gguf file, or a store. */
  readonly out: string | Store
  /** File format, `float` for plain floats or `gguf`; told by the name of a .gguf file. */
  readonly format?: string | undefined
  /**
   * Scheme of every quantized layer. Without one each keeps its own, or gets one that holds the
   * same values; where the format has none, the call is refused. For GGUF a mix, default `Q4_K_M`.
   */
  readonly scheme?: string | undefined
  /** Type of the floats of format `float`; the config's own by default. */
  readonly dtype?: string | undefined
  /** Data type of scales; as they are by default. */
  readonly scaleDtype?: string | undefined
  /** How a group's range is chosen where values are rounded. Default `minmax`. */
  readonly observer?: 'minmax' | 'mse' | undefined
  /** GGUF: an importance matrix, of lowbit or llama.cpp. */
  readonly imatrix?: string | undefined
  /** GGUF: types of tensors by pattern, the first that matches: `[['ffn_down', 'Q6_K']]`. */
  readonly tensorTypes?: readonly (readonly [string, string])[] | undefined
  /** GGUF: type of the head. */
  readonly outputType?: string | undefined
  /** GGUF: type of the token embedding. */
  readonly embeddingType?: string | undefined
  /** GGUF: the mix's first type for every matrix. Default false. */
  readonly pure?: boolean | undefined
  /** GGUF: name of the pre-tokenizer, where it cannot be told from tokenizer.json. */
  readonly tokenizerPre?: string | undefined
  /** A LoRA adapter to merge: a folder or address with `adapter_config.json`, or a store. */
  readonly lora?: string | Store | undefined
  /** Refuse whatever would change a value. Default false. */
  readonly exact?: boolean | undefined
  /** CPU threads; all by default. The bytes written do not depend on it. */
  readonly threads?: number | undefined
  /** Instruction set; the best of this machine by default. */
  readonly isa?: string | undefined
  /** Longest output file in bytes. Default 5 GB. */
  readonly maxShardBytes?: number | undefined
  /** Forget an unfinished run instead of going on with it. Default false. */
  readonly fresh?: boolean | undefined
  /** Replace a model that is already there. Default false. */
  readonly force?: boolean | undefined
  /** Stop at the plan and write nothing. Default false. */
  readonly dryRun?: boolean | undefined
}

/** Options of `imatrix`. */
export interface ImatrixOptions extends Watching {
  /** File to write, or a store that gets `imatrix.gguf`. */
  readonly out: string | Store
  /** What to run; the text that ships here by default. */
  readonly calibration?: CalibrationSource | readonly CalibrationSource[] | undefined
  /** Samples. Default 128. */
  readonly samples?: number | undefined
  /** Tokens of a sample. Default 512. */
  readonly length?: number | undefined
  /** Files to add to what is collected, or to one another. */
  readonly merge?: readonly string[] | undefined
  /** Format of the file; by its name, `dat` or else `gguf`. */
  readonly format?: 'gguf' | 'dat' | undefined
  /** CPU threads; all by default. */
  readonly threads?: number | undefined
  /** Instruction set; the best of this machine by default. */
  readonly isa?: string | undefined
  /** Replace a file that is already there. Default false. */
  readonly force?: boolean | undefined
}

/** Options of `calibrate`. */
export interface CalibrateOptions extends Watching {
  /** File to write, ending in .jsonl, or a store that gets `set.jsonl`; only reported without. */
  readonly out?: string | Store | undefined
  /** Model whose tokenizer and chat template cut the samples; a set of texts without. */
  readonly model?: string | Store | undefined
  /** Samples of the set. Default 128. */
  readonly samples?: number | undefined
  /** Tokens of a sample. Default 512. */
  readonly length?: number | undefined
  /** How samples are chosen. Default `random`. */
  readonly select?: Strategy | undefined
  /** Share of each language, as in `{ en: 0.5, zh: 0.5 }`; other languages are left out. */
  readonly mix?: Readonly<Record<string, number>> | undefined
  /** Languages that are kept; all by default. */
  readonly languages?: readonly string[] | undefined
  /** Cleaning rules to leave out. */
  readonly without?: readonly Rule[] | undefined
  /** Words, or characters of scripts without spaces, that a text must have. Default 8. */
  readonly minLength?: number | undefined
  /** Join texts to fill samples; else each sample is the start of one text. Default true. */
  readonly pack?: boolean | undefined
  /** Field of a row that holds its text or messages; found by its name by default. */
  readonly field?: string | undefined
  /** Most rows of each file; all, or 20,000 of a data set on the hub. */
  readonly rows?: number | undefined
  /** Leave out rows that cannot be read, and count them. Default false. */
  readonly skipBad?: boolean | undefined
  /** Seed of what is random. Default 0. */
  readonly seed?: number | undefined
  /** Replace a set that is already there. Default false. */
  readonly force?: boolean | undefined
}

/** Options of `Model.generate`; the defaults are those of generation_config.json. */
export interface GenerateOptions {
  /** Most tokens to generate. Default 256, or what the context leaves. */
  readonly maxTokens?: number | undefined
  /** 0 takes the most likely token. */
  readonly temperature?: number | undefined
  /** Sample among this many; 0 for all. */
  readonly topK?: number | undefined
  /** Sample among the most likely that have this much probability together. */
  readonly topP?: number | undefined
  /** Sample among those at least this likely, relative to the most likely. */
  readonly minP?: number | undefined
  /** More than 1 makes tokens that occurred less likely. */
  readonly repetitionPenalty?: number | undefined
  /** Makes sampling repeatable. */
  readonly seed?: number | undefined
  /** Text that ends the generation and is not part of it. */
  readonly stop?: string | readonly string[] | undefined
  /** Stops within one step; the iteration then throws `aborted`. */
  readonly signal?: AbortSignal | undefined
  /** Called once at the end with what the iterator also returns. */
  readonly onUsage?: ((usage: Usage) => void) | undefined
}

/** Options of `Model.embed`; the defaults are those of the files beside the model. */
export interface EmbedOptions extends Watching {
  /** Divide vectors by their length. */
  readonly normalize?: boolean | undefined
  /** `cls`, `mean`, `max`, `lasttoken`; without files, `mean` in encoders, else `lasttoken`. */
  readonly pooling?: string | undefined
  /** Name of a prompt of the model that is put in front of the texts. */
  readonly prompt?: string | undefined
  /** Cut texts that are too long; else they throw `context`. Default true. */
  readonly truncate?: boolean | undefined
}

/** Options of `Model.classify`. */
export interface ClassifyOptions extends Watching {
  /** How scores are made; by `problem_type` and the number of labels otherwise. */
  readonly scores?: 'softmax' | 'sigmoid' | 'none' | undefined
  /** Cut texts that are too long; else they throw `context`. Default true. */
  readonly truncate?: boolean | undefined
}

/** What a generation used. */
export interface Usage {
  readonly promptTokens: number
  readonly completionTokens: number
  /** `stop`: an end token or stop string; `length`: maxTokens. */
  readonly finishReason: 'stop' | 'length'
  /** The seed that repeats this text. */
  readonly seed: number
}

/** Options of `evaluate`; those of `RunOptions` count where a model is named by its place. */
export interface EvaluateOptions extends RunOptions, Watching {
  /** The text; a public-domain text by default. */
  readonly text?: string | undefined
  /** Tokens of a window. Default 512. */
  readonly window?: number | undefined
  /** The original, to measure the divergence from. */
  readonly reference?: string | Store | Model | undefined
  /** As in `load`, for the model and not for the reference. */
  readonly kvCache?: LoadOptions['kvCache']
}
