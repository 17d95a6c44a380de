/** Command lines run in this process over the fake binding. */
import type { ExecutionContext } from 'ava'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createApi } from '../ts/api.ts'
import { runProgram } from '../ts/cli/program.ts'
import { terminalOf } from '../ts/cli/terminal.ts'
import { nodeHost } from '../ts/host.node.ts'
import { type Fake, fakeBinding } from './fake-binding.ts'
import { counted, safetensors, tempFolder } from './helpers.ts'

/** What a command line did. */
export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs a command line in this process. */
export async function lowbit(
  args: readonly string[],
  fake: Fake = {},
  lines: readonly string[] = [],
): Promise<Ran> {
  const [out, err] = [sink(), sink()]
  const context = {
    terminal: terminalOf(out, err),
    signal: new AbortController().signal,
    api: async () => createApi(fakeBinding({ context: 1024, ...fake }), nodeHost),
    lines: () => toAsync(lines),
  }
  const code = await runProgram(args, context, '1.2.3')
  return { code, out: out.text, err: err.text }
}

/** A stream that keeps what it is given. */
export function sink(): { text: string; write: (text: string) => void } {
  const target = {
    text: '',
    write(text: string) {
      target.text += text
    },
  }
  return target
}

async function* toAsync(lines: readonly string[]): AsyncGenerator<string> {
  for (const line of lines) yield line
}

/** A checkpoint of a few tensors, and where to put the result. */
export async function checkpoint(
  t: ExecutionContext,
  tensors = 3,
): Promise<{ model: string; out: string; root: string }> {
  const root = await tempFolder(t)
  const model = join(root, 'model')
  await mkdir(model)
  const names = Array.from(
    { length: tensors },
    (_, i) => [`t${i}.weight`, counted([4, 4], i)] as const,
  )
  await writeFile(join(model, 'model.safetensors'), safetensors(Object.fromEntries(names)))
  await writeFile(join(model, 'config.json'), '{"model_type":"x"}')
  return { model, out: join(root, 'out'), root }
}
