/** The `lowbit` program over the fake binding; FAKE_STEP_MS makes it slow enough to be killed. */
import { createApi } from '../ts/api.ts'
import { start } from '../ts/cli/start.ts'
import { nodeHost } from '../ts/host.node.ts'
import { fakeBinding } from './fake-binding.ts'

const stepMs = Number(process.env['FAKE_STEP_MS'] ?? 0)
await start(async () => createApi(fakeBinding({ stepMs, context: 1024 }), nodeHost))
