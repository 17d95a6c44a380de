/**
 * A data set of the Hugging Face hub by its name. The hub keeps a Parquet copy of most data sets
 * (`/api/datasets/<name>/parquet` lists its files by configuration and split); those that have
 * none are read as the files of their repository.
 */
import { isObject } from '../bytes.ts'
import { LowbitError, nearest, quote } from '../error.ts'
import { endpointOf, type Hub, hubFetch, hubHeaders } from '../hub/access.ts'
import { listText } from '../option-rules.ts'
import { fetchStore } from '../store/fetch.ts'
import { type DataFile, remoteFile } from './source.ts'

/** Rows of each split that are read unless the caller says otherwise: whole ones may be terabytes. */
const ROWS = 20_000

/** Configurations and splits that are read when none is named, the first that there is. */
const USUAL = { config: ['default'], split: ['train', 'validation', 'test'] } as const

/** Files of a data set `org/name[:config][:split]`; `not-found`, `io` or `dataset`. */
export async function hubFiles(place: string, hub: Hub = {}): Promise<readonly DataFile[]> {
  const [name = '', config, split] = place.split(':')
  const request = { base: endpointOf(hub), name, hub, headers: hubHeaders(hub) }
  const listing = await ask(request, `/api/datasets/${name}/parquet`)
  if (isObject(listing)) {
    const splits = pick(listing, config, { place, what: 'config' })
    const urls = pick(isObject(splits) ? splits : {}, split, { place, what: 'split' })
    if (Array.isArray(urls)) return urls.map((url, i) => addressFile(request, String(url), `${i}`))
  }
  return repositoryFiles(request, { place, config, split })
}

interface Request {
  readonly hub: Hub
  readonly base: string
  readonly name: string
  readonly headers: Readonly<Record<string, string>>
}

/** A member by its name, or the usual one; naming one that is not there says which there are. */
function pick(
  members: Readonly<Record<string, unknown>>,
  wanted: string | undefined,
  { place, what }: { place: string; what: 'config' | 'split' },
): unknown {
  const names = Object.keys(members)
  const usual: readonly string[] = USUAL[what]
  const found = wanted ?? usual.find((name) => names.includes(name)) ?? names[0]
  if (found !== undefined && names.includes(found)) return members[found]
  throw new LowbitError('not-found', `The data set has no ${what} ${quote(found ?? '')}`, {
    place,
    remedy: `it has ${listText(names.slice(0, 12)) || 'none'}${suggestion(found, names)}`,
  })
}

function suggestion(found: string | undefined, names: readonly string[]): string {
  const near = names.length > 12 && found !== undefined ? nearest(found, names) : undefined
  return near === undefined ? '' : `, and ${near} is the nearest`
}

/** Data files of the repository itself, those of a configuration and split by their path. */
async function repositoryFiles(
  request: Request,
  {
    place,
    config,
    split,
  }: { place: string; config?: string | undefined; split?: string | undefined },
): Promise<readonly DataFile[]> {
  const tree = await ask(request, `/api/datasets/${request.name}/tree/main?recursive=true`)
  const entries: readonly unknown[] = Array.isArray(tree) ? tree : []
  const paths = entries
    .map((entry) => (isObject(entry) ? String(entry['path']) : ''))
    .filter((path) => /\.(parquet|jsonl|ndjson|json|txt)(\.gz)?$/i.test(path))
    .filter((path) => !/(^|\/)(dataset_infos?|config)\.json$/.test(path))
    .filter((path) => [config, split].every((part) => part === undefined || path.includes(part)))
  if (paths.length > 0) {
    const folder = `${request.base}/datasets/${request.name}/resolve/main/`
    const store = fetchStore(folder, { headers: request.headers })
    return paths.toSorted().map((path) => remoteFile(store, path, `${request.name}/${path}`, ROWS))
  }
  throw new LowbitError(
    'not-found',
    'There is no such file, and no data set of that name to read',
    {
      place,
      remedy: 'name a file, a folder, an address, or a data set as org/name:config:split',
    },
  )
}

function addressFile({ headers, name }: Request, url: string, fallback: string): DataFile {
  const address = new URL(url)
  const folder = new URL('.', address)
  const file = decodeURIComponent(address.pathname.split('/').at(-1) ?? fallback)
  return remoteFile(fetchStore(folder, { headers }), file, `${name}/${pathTail(address)}`, ROWS)
}

/** `config/split/0.parquet`: what tells the files of one data set apart. */
function pathTail({ pathname }: URL): string {
  return decodeURIComponent(pathname.split('/').slice(-3).join('/'))
}

/** JSON of a route; nothing when it has none. */
async function ask({ base, hub, name }: Request, route: string): Promise<unknown> {
  const place = base + route
  let response: Response
  try {
    response = await hubFetch(hub, { name: `datasets/${name}` })(place)
  } catch (error) {
    if (error instanceof LowbitError && error.code === 'not-found') return undefined
    throw error
  }
  return response.json().catch((cause: unknown) => {
    throw new LowbitError('io', 'The hub did not answer with JSON', { place, cause })
  })
}
