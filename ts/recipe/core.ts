/** Options as the core takes them: the fields of `Options` in `job/request.rs`. */

/** Everything that decides the bytes; what is absent is the core's to choose. */
export interface CoreOptions {
  readonly method: string
  readonly scheme: string
  readonly format: string
  readonly ignore?: readonly string[]
  readonly layers?: readonly LayerRule[]
  readonly transforms?: readonly Transform[]
  readonly prune?: Prune | null
  readonly observer?: string | null
  readonly actOrder?: string
  readonly trueSequential?: boolean
  readonly strict?: boolean
  readonly allowNonfinite?: string | null
  readonly allExperts?: boolean
  readonly targetBpw?: number | null
  readonly candidates?: readonly string[]
  readonly damp?: number
  readonly block?: number
  readonly refine?: number
  readonly scaleDtype?: string | null
  readonly seed?: number
  readonly kvCache?: string | null
}

/** What differs for the linears that a pattern fits; the first rule that fits decides. */
export interface LayerRule {
  readonly pattern: string
  readonly scheme?: string | null
  readonly method?: string | null
}

/** A change of weights before anything is rounded. */
export type Transform =
  | {
      readonly kind: 'rotate'
      readonly r1?: boolean
      readonly r2?: boolean
      readonly random?: boolean
    }
  | {
      readonly kind: 'smoothQuant'
      readonly strength?: number
      readonly layers?: readonly (readonly [string, number])[]
      readonly search?: boolean
      readonly ignore?: readonly string[]
    }
  | {
      readonly kind: 'awq'
      readonly duo?: boolean
      readonly grid?: number
      readonly clip?: boolean
      readonly ignore?: readonly string[]
    }

/** Weights that become zero before rounding. */
export interface Prune {
  readonly method: string
  readonly sparsity?: number
  readonly pattern?: string | null
  readonly ignore?: readonly string[]
}

/** Module that stays as it is unless a recipe says otherwise: it costs quality and saves little. */
export const HEAD = 'lm_head'
