/** Names of models on the Hugging Face hub, as people write them. */

/** A model on the hub, and a part of it. */
export interface HubName {
  /** `owner/name`. */
  readonly repo: string
  /** Branch, tag or commit. */
  readonly revision: string
  /** A file that was named. */
  readonly file?: string
  /** A GGUF quantization that was named, as `Q4_K_M`. */
  readonly tag?: string
}

/** The branch that is meant when none is named. */
const MAIN = 'main'

const REPO = '[\\w-][\\w.-]*/[\\w-][\\w.-]*'
// `refs/pr/3` is the one form of revision with slashes in it that people write.
const REVISION = '[\\w-]+(?:[.][\\w-]+)*|refs/[\\w-]+/[\\w.-]+'
const FILE = '[^@:]+\\.(?:gguf|safetensors)'

const NAME = new RegExp(`^(?:hf://)?(${REPO})(?:@(${REVISION}))?(?:/(${FILE})|:([\\w.-]+))?$`)

/** The path of a page about a model: the model itself, a folder of a revision or a file. */
const PAGE = new RegExp(`^/(${REPO})(?:/(?:tree|blob)/([^/]+)(?:/(${FILE}))?)?/?$`)

/** Folders of the hub that hold no models. */
const NOT_MODELS = /^(datasets|spaces|api|docs|collections|papers|buckets|kernels)\//

/** `owner/name`, `owner/name@revision`, `owner/name/file.gguf`, `owner/name:Q4_K_M`, or nothing. */
export function hubName(place: string): HubName | undefined {
  const [, repo, revision, file, tag] = NAME.exec(place) ?? []
  if (repo === undefined || /\.(gguf|safetensors)$/i.test(repo)) return undefined
  return nameOf(repo, revision, { file, tag })
}

/** A model's page in a browser: what people copy; nothing for any other address. */
export function hubPage(address: string, endpoint: string): HubName | undefined {
  const url = new URL(address)
  if (url.origin !== new URL(endpoint).origin) return undefined
  const [, repo, revision, file] = PAGE.exec(decodeURIComponent(url.pathname)) ?? []
  if (repo === undefined || NOT_MODELS.test(repo)) return undefined
  return nameOf(repo, revision, { file, tag: undefined })
}

function nameOf(
  repo: string,
  revision: string | undefined,
  { file, tag }: { file: string | undefined; tag: string | undefined },
): HubName {
  return {
    repo,
    revision: revision ?? MAIN,
    ...(file === undefined ? {} : { file }),
    ...(tag === undefined ? {} : { tag }),
  }
}

/** The name as it is written, for messages. */
export function hubText({ repo, revision, file, tag }: HubName): string {
  const at = revision === MAIN ? '' : `@${revision}`
  return repo + at + (file === undefined ? '' : `/${file}`) + (tag === undefined ? '' : `:${tag}`)
}

/** Where a model lies in the cache, and where on the hub: its name is not the last part there. */
const CACHED = /models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\][\da-f]{40,64}$/
const RESOLVED = new RegExp(`/(${REPO})/resolve/[^/]+$`)

/** What a card calls a model: its name on the hub, or its place without folders. */
export function modelName(place: string): string {
  const [, owner, name] = CACHED.exec(place) ?? []
  if (owner !== undefined) return `${owner}/${name}`
  const [, repo] = RESOLVED.exec(place) ?? []
  return repo ?? place.split(/[/\\]/).findLast((part) => part !== '') ?? 'model'
}
