// What a test run comes to, summed over runners that each report in their own words.

/** Counts of passed and failed checks and the names of those that were skipped. */
export class Tally {
  passed = 0
  failed = 0
  /** @type {string[]} */
  skipped = []

  /**
   * A check that found no GPU says so with a line `skipped: reason` and passes; it is counted as
   * skipped, because it showed nothing.
   */
  passedButSkipped(name, reason) {
    this.passed -= 1
    this.skipped.push(`${name} (${reason})`)
  }

  /** The line that every test run ends with. */
  line() {
    return `${this.passed} passed, ${this.failed} failed, ${this.skipped.length} skipped`
  }
}

/** The reason in a line that a test printed to say that it could not run, or undefined. */
export function skipReason(line) {
  return /^\s*(?:ℹ\s*)?skipped: (.*)$/.exec(line)?.[1]
}
