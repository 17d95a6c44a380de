/** What a user has set for every tool of the hub: its address, a token, the cache folder. */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Hub } from './access.ts'

/** The settings of this process. */
export interface Settings extends Hub {
  /** Folder of all cached models. */
  readonly cache: string
}

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Reads the variables that the hub's own tools read: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE,
 * HF_HUB_OFFLINE, HF_TOKEN, HF_TOKEN_PATH, and the file that `hf auth login` writes.
 */
export async function hubSettings(env: Environment = process.env): Promise<Settings> {
  const caches = given(env, 'XDG_CACHE_HOME') ?? join(homedir(), '.cache')
  const home = expanded(given(env, 'HF_HOME') ?? join(caches, 'huggingface'))
  const cache = given(env, 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE') ?? join(home, 'hub')
  return {
    endpoint: given(env, 'HF_ENDPOINT'),
    token: await tokenOf(env, home),
    cache: expanded(cache),
    offline: isSet(env['HF_HUB_OFFLINE']) || isSet(env['TRANSFORMERS_OFFLINE']),
  }
}

/** The first variable that is set to something. */
function given(env: Environment, ...names: readonly string[]): string | undefined {
  return names.map((name) => env[name]).find((value) => value !== undefined && value !== '')
}

async function tokenOf(env: Environment, home: string): Promise<string | undefined> {
  const token = cleaned(given(env, 'HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'))
  if (token !== undefined || isSet(env['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return token
  const path = expanded(given(env, 'HF_TOKEN_PATH') ?? join(home, 'token'))
  // No file, no token: what is public needs none.
  return cleaned(await readFile(path, 'utf8').catch(() => undefined))
}

/** A token as it was pasted, without the line break that came with it. */
function cleaned(token: string | undefined): string | undefined {
  const text = token?.replaceAll(/\s/g, '') ?? ''
  return text === '' ? undefined : text
}

function isSet(flag: string | undefined): boolean {
  return ['1', 'on', 'yes', 'true'].includes(flag?.toLowerCase() ?? '')
}

function expanded(path: string): string {
  return path.replace(/^~(?=[/\\]|$)/, homedir())
}
