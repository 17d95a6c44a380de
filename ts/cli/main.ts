#!/usr/bin/env node
/** The `lowbit` program. */
import { createApi } from '../api.ts'
import { nodeHost } from '../host.node.ts'
import { start } from './start.ts'

await start(async () => {
  const { nativeBinding } = await import('../native.ts')
  return createApi(await nativeBinding(), nodeHost)
})
