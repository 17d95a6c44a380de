// The binding under test is chosen by LOWBIT_BINDING: node (default), wasm, or chromium.
const binding = process.env.LOWBIT_BINDING ?? 'node'

// The rest has nothing to do with the binding, or has one of its own, and runs once.
const onBoth = [
  'binding',
  'encode',
  'gguf',
  'gguf-malformed',
  'kv-cache',
  'malformed',
  'novels',
  'reference',
]

const files = {
  node: ['test/**/*.test.ts', '!test/browser/**'],
  wasm: onBoth.map((name) => `test/${name}.test.ts`),
  chromium: ['test/browser/**/*.test.ts'],
}

export default {
  files: files[binding],
  extensions: ['ts'],
  // Native modules and GPU handles do not survive the end of a worker thread in every driver.
  workerThreads: false,
  timeout: '2m',
  // No test asks a public hub, nor looks into the cache of whoever runs it.
  environmentVariables: { HF_HUB_OFFLINE: '1', HF_HOME: 'target/no-hub', HF_HUB_CACHE: '' },
}
