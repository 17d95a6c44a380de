/** A page of headless Chromium that the repository is served to. */
import { existsSync } from 'node:fs'
import type { ExecutionContext } from 'ava'
import { chromium, type BrowserContext, type Page } from 'playwright-core'
import { serve } from '../../examples/browser/serve.mjs'
import { ROOT } from '../helpers.ts'

const EXECUTABLE = process.env['LOWBIT_CHROMIUM'] ?? '/usr/bin/chromium'

// The first three make it start here; --enable-unsafe-webgpu is what gives the software adapter.
const ARGS = [
  '--headless=new',
  '--no-sandbox',
  '--disable-dev-shm-usage',
  '--enable-unsafe-webgpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** A page under test. */
export interface Chromium {
  /** Address of the repository. */
  readonly url: string
  readonly page: Page
  /** Calls one of the functions of page.js. */
  act(name: string, ...args: unknown[]): Promise<unknown>
  close(): Promise<void>
}

/** Opens the page; undefined, and a word about it, without a browser. */
export async function openChromium(
  path = '/test/browser/page.html',
): Promise<Chromium | undefined> {
  if (!existsSync(EXECUTABLE)) return undefined
  const server = await serve(ROOT)
  const context: BrowserContext = await chromium.launchPersistentContext('', {
    executablePath: EXECUTABLE,
    headless: false,
    args: ARGS,
  })
  const say = (what: string): void => void process.stderr.write(`page: ${what}\n`)
  const page = context.pages()[0] ?? (await context.newPage())
  page.on('console', (message) => {
    // Which files a model has is found out by asking for them.
    const isAnswer = message.text().startsWith('Failed to load resource')
    if (message.type() === 'error' && !isAnswer) say(message.text())
  })
  page.on('pageerror', (error) => say(error.message))
  await page.goto(server.url + path)
  return {
    url: server.url,
    page,
    async act(name, ...args) {
      await page.waitForFunction('"act" in globalThis')
      return page.evaluate(([called, given]) => Reflect.get(globalThis, 'act')(called, ...given), [
        name,
        args,
      ] as const)
    },
    async close() {
      await context.close()
      server.close()
    },
  }
}

/** Says that a test could not run, in the words that the test runner counts. */
export function skipped(t: ExecutionContext): void {
  t.log(`skipped: no Chromium at ${EXECUTABLE}`)
  t.pass()
}
