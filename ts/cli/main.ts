#!/usr/bin/env node
/** The `lowbit` program. Help and usage errors are there before the rest is loaded. */
import { start } from './start.ts'

await start(async () => {
  const [{ createApi }, { nodeHost }, { nativeBinding }] = await Promise.all([
    import('../api.ts'),
    import('../host.node.ts'),
    import('../native.ts'),
  ])
  return createApi(await nativeBinding(), nodeHost)
})
