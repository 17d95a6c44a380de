import test from 'ava'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkpoint, lowbit } from './command-line.ts'
import { ROOT } from './helpers.ts'

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`${signal}: ends within 2 s with ${code} and can be gone on with`, async (t) => {
    const { model, out } = await checkpoint(t, 40)
    const args = [join(ROOT, 'test/fake-cli.ts'), 'quantize', model, '-o', out, '--method', 'rtn']
    const child = spawn(process.execPath, args, { env: { ...process.env, FAKE_STEP_MS: '20' } })
    let err = ''
    child.stderr.on('data', (data: Buffer) => (err += data.toString()))
    for (let tries = 0; tries < 200; tries++) {
      const journal = await readFile(`${out}.partial/journal.jsonl`, 'utf8').catch(() => '')
      if (journal.split('\n').length > 3) break
      await new Promise((wake) => setTimeout(wake, 25))
    }
    const asked = performance.now()
    child.kill(signal)
    const [status] = await once(child, 'close')
    t.is(status, code)
    t.true(performance.now() - asked < 2000)
    t.regex(err, /^error\[aborted\]: [^\n]*\n$/)
    await t.throwsAsync(access(out))
    const { out: json } = await lowbit([...args.slice(1), '--json'])
    t.true(JSON.parse(json).resumed)
  })
}
