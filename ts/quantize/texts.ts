/** The texts of an output: configuration, recipe, card. */
import type { CoreOptions } from '../recipe/core.ts'
import { recipeText } from '../recipe/write.ts'
import type { Store } from '../store/store.ts'
import type { CalibrationSet } from './calibration.ts'
import { type CardFacts, cardText } from './card.ts'
import { writeText } from './files.ts'
import type { CorePlan, CoreReport } from './report.ts'
import type { Survey } from './survey.ts'

/** What a run was made with and what came out. */
export type Facts = Omit<CardFacts, 'recipe'> & {
  readonly settings: CoreOptions
  readonly calibration: CalibrationSet | undefined
  readonly plan: CorePlan
  readonly survey: Survey | undefined
  readonly maxShardBytes: number | undefined
}

/** What a loader needs. */
export async function writeConfig(store: Store, plan: CorePlan, core: CoreReport): Promise<void> {
  if (plan.index) await writeText(store, 'model.safetensors.index.json', plan.index)
  await writeText(store, 'config.json', core.config ?? plan.config)
}

/** What a reader needs. */
export async function writeCard(store: Store, facts: Facts): Promise<void> {
  const { version, settings, calibration, plan, survey, maxShardBytes, sourceCard } = facts
  const set = calibration && {
    files: calibration.files,
    samples: calibration.samples,
    length: calibration.length,
  }
  const options = plan.options ?? settings
  const targetBpw = survey?.targetBpw
  const { imatrix } = facts
  const made = { calibration: set, maxShardBytes, targetBpw, imatrix }
  const recipe = recipeText({ version, options, ...made })
  await writeText(store, 'recipe.yaml', recipe)
  // It says who made the original and under what licence.
  if (sourceCard !== undefined) await writeText(store, 'README.original.md', sourceCard)
  await writeText(store, 'README.md', cardText({ ...facts, recipe }))
}
