import test from 'ava'
import { progressLine, terminalOf, timeText } from '../ts/cli/terminal.ts'
import { lowbit, sink } from './command-line.ts'
import { NOVELS, ROOT } from './helpers.ts'

test('help: lists every command with examples and exits 0', async (t) => {
  const { code, out, err } = await lowbit(['--help'])
  t.is(code, 0)
  for (const name of [
    'quantize',
    'calibrate',
    'eval',
    'run',
    'chat',
    'inspect',
    'formats',
    'doctor',
  ]) {
    t.true(out.includes(name))
    const help = await lowbit([name, '--help'])
    t.is(help.code, 0)
    t.true(help.out.includes('Examples:\n  lowbit '))
    t.is(help.err, '')
  }
  t.is(err, '')
})

test('version: prints it and exits 0', async (t) => {
  t.deepEqual(await lowbit(['--version']), { code: 0, out: '1.2.3\n', err: '' })
})

const WRONG: readonly (readonly [readonly string[], RegExp])[] = [
  [['quantise'], /unknown command 'quantise'; did you mean quantize\?/],
  [
    ['quantize', 'm', '-o', 'x', '--shceme', 'w4'],
    /unknown option '--shceme'; did you mean --scheme\?/,
  ],
  [['quantize', 'm'], /required option '-o, --out <folder>' not specified/],
  [['eval'], /missing required argument 'model'/],
  [['quantize', 'm', '-o', 'x', '--samples', 'many'], /'many' is invalid/],
  [['quantize', 'm', '-o', 'x', '--resume', '--fresh'], /cannot be used with/],
  [['run', 'm', '-p', 'x', '--temperature', '-1'], /number from 0 to 100/],
  [['run', 'm', '-p', 'x', '--device', 'tpu'], /Allowed choices are auto, cpu, gpu/],
  [['eval', 'm', 'n'], /too many arguments/],
  [['quantize', NOVELS, '-o', 'x', '--method', 'gtpq'], /unknown method/],
]

for (const [args, pattern] of WRONG) {
  test(`wrong usage: ${args.join(' ').replace(ROOT, '')} exits 2 with one line`, async (t) => {
    const { code, out, err } = await lowbit(args)
    t.is(code, 2)
    t.is(out, '')
    t.regex(err, /^error\[option\]: [^\n]*\n$/)
    t.regex(err, pattern)
  })
}

test('no command: shows the help on stderr and exits 2', async (t) => {
  const { code, out, err } = await lowbit([])
  t.is(code, 2)
  t.is(out, '')
  t.true(err.includes('Usage: lowbit'))
})

test('failure: one line with code, exit 1, nothing on stdout', async (t) => {
  for (const command of [
    ['inspect', '/no/such'],
    ['eval', '/no/such', '--json'],
    ['run', 'a/b', '-p', 'x'],
  ]) {
    const { code, out, err } = await lowbit(command)
    t.is(code, 1)
    t.is(out, '')
    t.regex(err, /^error\[not-found\]: [^\n]*\n$/)
  }
  t.regex(
    (await lowbit(['run', 'org/name', '-p', 'x'])).err,
    /org\/name; run once with a network and without HF_HUB_OFFLINE/,
  )
})

test('progress: a bar on a terminal, nothing for a short call elsewhere', (t) => {
  t.is(
    progressLine({ stage: 'quantize', layer: 3, done: 1, total: 4, seconds: 1, eta: 62 }),
    'quantize 3     [######                  ]  25 %  1:02 left',
  )
  t.is(timeText(3723), '1:02:03')
  const [out, err] = [sink(), sink()]
  terminalOf(out, err).progress({ stage: 'read', done: 1, total: 2, seconds: 1 })
  t.is(err.text, '')
  const bar = terminalOf(out, Object.assign(err, { isTTY: true, columns: 40 }))
  bar.progress({ stage: 'read', done: 1, total: 2, seconds: 1 })
  t.regex(err.text, /^\rread/)
  bar.out('x')
  t.regex(err.text, /\r *\r$/)
  t.is(out.text, 'x')
})
