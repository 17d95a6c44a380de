/** Which language a text is in: eld, a detector of n-grams that needs no network. */
import { LowbitError, nearest, quote } from '../error.ts'

/** Tells languages. */
export interface Languages {
  /** A text's ISO 639-1 code, or `und` where there is too little to tell. */
  readonly identify: (text: string) => string
  /** Refuses a code that no text could have. */
  readonly check: (code: string) => void
}

/** Text in no language that is known. */
const UNKNOWN = 'und'

/** What tells as much as a whole book. */
const CHARACTERS = 500

/** Loads the detector; its tables are 1.6 MB, so only a call that needs it pays for them. */
export async function openLanguages(): Promise<Languages> {
  const { eld } = await import('eld/small')
  const codes = [...Object.values(eld.info().Languages), UNKNOWN]
  return {
    identify: (text) => eld.detect(text.slice(0, CHARACTERS)).language || UNKNOWN,
    check(code) {
      if (codes.includes(code)) return
      throw new LowbitError('option', `There is no language ${quote(code)}`, {
        remedy: `use a code of ISO 639-1 such as en or zh; did you mean ${nearest(code, codes)}?`,
      })
    },
  }
}
