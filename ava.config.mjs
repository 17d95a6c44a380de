// The binding under test is chosen by LOWBIT_BINDING: node (default), wasm, or chromium.
const binding = process.env.LOWBIT_BINDING ?? 'node'

// What has nothing to do with the binding runs once, beside the native one.
const files = {
  node: ['test/**/*.test.ts', '!test/browser/**'],
  wasm: ['test/**/*.test.ts', '!test/browser/**', '!test/tidy.test.ts', '!test/package.test.ts'],
  chromium: ['test/browser/**/*.test.ts'],
}

export default {
  files: files[binding],
  extensions: ['ts'],
  // Native modules and GPU handles do not survive the end of a worker thread in every driver.
  workerThreads: false,
  timeout: '2m',
}
