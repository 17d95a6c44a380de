/** What both entry points export beside the functions themselves. */
export type { Catalog, Lowbit, Place } from './api.ts'
export type { CalibrateReport } from './calibration/report.ts'
export type { CalibrationSource } from './calibration/source.ts'
export type { ConvertReport } from './convert/report.ts'
export type { TextOrPair } from './encode/batch.ts'
export type { Classification } from './encode/classify.ts'
export { type ErrorCode, LowbitError } from './error.ts'
export type { Evaluation } from './evaluate/evaluate.ts'
export type { Inspection } from './inspect.ts'
export type { ModelInfo } from './loaded.ts'
export type { Model } from './model.ts'
export type {
  CalibrateOptions,
  ClassifyOptions,
  ConvertOptions,
  EmbedOptions,
  EvaluateOptions,
  GenerateOptions,
  LoadOptions,
  QuantizeOptions,
  Usage,
} from './options.ts'
export type { Progress } from './watching.ts'
export type { QuantizeReport } from './quantize/report.ts'
export type { RecipeForm } from './recipe/form.ts'
export { fetchStore, type FetchOptions } from './store/fetch.ts'
export { memoryStore, type MemoryStore } from './store/memory.ts'
export type { Range, Store, Writing } from './store/store.ts'
export type { Message } from './text/chat.ts'
