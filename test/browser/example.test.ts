import test from 'ava'
import { openChromium, skipped } from './chromium.ts'

test('example: the page loads a model and streams text', async (t) => {
  const browser = await openChromium('/examples/browser/index.html')
  if (!browser) return skipped(t)
  t.teardown(() => browser.close())
  const { page } = browser
  await page.selectOption('#device', 'cpu')
  await page.fill('#tokens', '16')
  await page.fill('#temperature', '0')
  await page.click('#go')
  await page.waitForFunction(`document.querySelector('#status').textContent.includes('tokens/s')`)
  const text = await page.textContent('#text')
  t.is(
    text,
    'It was a cold morning in the early spring, and Holmes was in the room.\n\n"I am not afraid of it," said Holmes',
  )
  t.regex((await page.textContent('#status')) ?? '', /^Qwen3 on CPU \(simd128\), f32; 8\.4 MB/)
})
