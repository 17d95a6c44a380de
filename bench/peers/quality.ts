/**
 * Every row of the model's README that ours can be put beside: the same text, tokens and windows.
 *   node bench/peers/quality.ts [FILTER…] [--record]
 * The peers' figures are those of models/novels-4m/README.md. A row that cannot be made is missing,
 * with the reason; none is left out.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CALIBRATION, EVALUATION, lowbit, markdown, MODEL, readRecord, record } from './tools.ts'

/** Ours may be at most this many times the peer's. */
const BAR = 1.03

/** How ours is asked for what a row's method is, by the words of its name. */
const METHODS: readonly (readonly [RegExp, (scheme: string) => readonly string[]])[] = [
  [/ RTN-mse (\S+)$/, (scheme) => ['--method', 'rtn', '--observer', 'mse', '--scheme', scheme]],
  [/ RTN (\S+)$/, (scheme) => ['--method', 'rtn', '--observer', 'minmax', '--scheme', scheme]],
  [/ GPTQ-mse (\S+)$/, (scheme) => ['--method', 'gptq', '--observer', 'mse', '--scheme', scheme]],
  [/ GPTQ (\S+)$/, (scheme) => ['--method', 'gptq', '--observer', 'minmax', '--scheme', scheme]],
  [/ AWQ (\S+)$/, (scheme) => ['--method', 'awq', '--scheme', scheme]],
  [/SmoothQuant0\.8\+GPTQ (\S+)$/, () => ['--recipe', 'smoothquant-gptq-w8a8']],
  [/ (FP8)_DYNAMIC$/, () => ['--recipe', 'fp8-dynamic']],
  [
    /^HQQ (\S+)$/,
    (scheme) => ['--method', 'hqq', '--scheme', `${scheme}-float`, '--format', 'hqq'],
  ],
  [/ (nf4) block 64$/, () => ['--recipe', 'nf4']],
  [/ (fp4) block 64$/, () => ['--recipe', 'fp4']],
]

/** What has no row of its own: HQQ on integer zeros, and recipes against the best row. */
const MORE: readonly (readonly [name: string, against: string, flags: readonly string[]])[] = [
  ...['w4g64', 'w4g128', 'w3g128'].map(
    (scheme) =>
      [
        `HQQ ${scheme}, zeros as integers`,
        `HQQ ${scheme}`,
        ['--method', 'hqq', '--scheme', `${scheme}-asym`],
      ] as const,
  ),
  ['GPTQ as it is by default, w4g128', 'AutoRound w4g128', ['--method', 'gptq']],
  [
    'GPTQ as it is by default, w3g128',
    'AutoRound w3g128',
    ['--method', 'gptq', '--scheme', 'w3g128'],
  ],
  ['3, 4 and 8 bits, 4.125 in the mean', 'AutoRound w4g128', ['--target-bpw', '4.125']],
  ['AWQ, then GPTQ w4g128', 'AutoRound w4g128', ['--recipe', 'awq-gptq-w4a16']],
  ['rotation, then GPTQ w4g128', 'AutoRound w4g128', ['--recipe', 'rotate-gptq-w4a16']],
  [
    'GPTQ-mse w4g128, group-aware',
    'AutoRound w4g128',
    ['--method', 'gptq', '--scheme', 'w4g128', '--observer', 'mse', '--act-order', 'gar'],
  ],
]

/** A row of the README. */
interface Peer {
  readonly name: string
  readonly perplexity: number
  readonly kl: number
}

interface Row {
  readonly name: string
  readonly peer: Peer
  readonly flags: readonly string[]
  readonly ours?: {
    readonly perplexity: number
    readonly meanKld: number
    readonly sameTop: number
    readonly bitsPerWeight: number
    readonly bytes: number
  }
  readonly missing?: string
}

function peersOf(readme: string): readonly Peer[] {
  return [
    ...readme.matchAll(/^\| ([^|]+?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) % \|$/gm),
  ]
    .map(([, name = '', perplexity, kl]) => ({
      name,
      perplexity: Number(perplexity),
      kl: Number(kl),
    }))
    .filter(({ kl }) => kl > 0)
}

function plannedRows(peers: readonly Peer[]): readonly Row[] {
  const rows: Row[] = []
  for (const peer of peers) {
    if (peer.name.startsWith('AutoRound')) continue
    const found = METHODS.flatMap(([pattern, flags]) => {
      const match = pattern.exec(peer.name)
      return match ? [flags(match[1] ?? '')] : []
    })
    const [flags] = found
    rows.push(
      flags
        ? { name: peer.name, peer, flags }
        : { name: peer.name, peer, flags: [], missing: 'no method of ours' },
    )
  }
  for (const [name, against, flags] of MORE) {
    const peer = peers.find((one) => one.name === against)
    if (peer) rows.push({ name, peer, flags })
  }
  return rows
}

async function measured(row: Row, out: string): Promise<Row> {
  if (row.missing !== undefined) return row
  const size = ['--calibration', CALIBRATION, '--samples', '128', '--length', '512']
  // The peers ran on weights widened to f32, so their scales are f32 too.
  const scales = /nf4|fp4|fp8/.test(row.flags.join(' ')) ? [] : ['--scale-dtype', 'F32']
  const made = await lowbit(
    'quantize',
    MODEL,
    '-o',
    out,
    ...row.flags,
    ...size,
    ...scales,
    '--force',
    '--fresh',
  )
  if (made.code !== 0) return { ...row, missing: lastLine(made.err) }
  const text = ['--text', EVALUATION, '--window', '512', '--json']
  const scored = await lowbit('eval', out, '--reference', MODEL, ...text)
  if (scored.code !== 0) return { ...row, missing: lastLine(scored.err) }
  const all: NonNullable<Row['ours']> = JSON.parse(scored.out)
  // No paths: records are for reading elsewhere.
  const { perplexity, meanKld, sameTop, bitsPerWeight, bytes } = all
  return { ...row, ours: { perplexity, meanKld, sameTop, bitsPerWeight, bytes } }
}

function lastLine(text: string): string {
  return (text.trim().split('\n').at(-1) ?? 'no reason given')
    .replaceAll(MODEL, 'models/novels-4m')
    .slice(0, 160)
}

function verdict({ name, ours, peer, missing }: Row): string {
  if (!ours) return `missing: ${missing?.replaceAll('|', '/')}`
  // The bar is for a method against itself in another tool.
  if (name !== peer.name) return 'to compare'
  return ours.meanKld <= peer.kl * BAR ? 'within' : 'above'
}

function tableOf(rows: readonly Row[]): string {
  return markdown([
    [
      'method',
      'peer',
      'mean KL, peer',
      'mean KL, ours',
      'ratio',
      'perplexity, peer',
      'perplexity, ours',
      `${BAR} ×`,
    ],
    ...rows.map((row) => [
      row.name,
      row.peer.name === row.name ? '' : row.peer.name,
      row.peer.kl.toFixed(6),
      row.ours?.meanKld.toFixed(6) ?? '',
      row.ours ? (row.ours.meanKld / row.peer.kl).toFixed(3) : '',
      row.peer.perplexity.toFixed(3),
      row.ours?.perplexity.toFixed(3) ?? '',
      verdict(row),
    ]),
  ])
}

/** Rows in the order of the README, those of this run over those of earlier ones of the day. */
function merged(planned: readonly Row[], done: readonly Row[]): readonly Row[] {
  const known = new Map<string, Row>()
  for (const row of [...(recorded('peers-quality')?.rows ?? []), ...done]) known.set(row.name, row)
  const unknown = { missing: 'not measured in this run' }
  return planned.map((row) => known.get(row.name) ?? { ...row, ...unknown })
}

function keep(rows: readonly Row[]): void {
  const head = `# Quality beside other tools

\`node bench/peers/quality.ts --record\`: novels-4m, calibrated on the first 128 × 512 tokens of data/calibration.txt,
KL(original ‖ quantized) in nats over 131 windows of 512 tokens of data/eval.txt, f32 compute. The peers' figures are
those of models/novels-4m/README.md; differences under 3 % are noise, hence the bar of ${BAR}.

`
  record('peers-quality', { rows }, head + tableOf(rows))
}

/** What an earlier run of the day kept. */
function recorded(name: string): { readonly rows: readonly Row[] } | undefined {
  const text = readRecord(name)
  return text === undefined ? undefined : JSON.parse(text)
}

const { values, positionals } = parseArgs({
  options: { record: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const scratch = mkdtempSync(join(tmpdir(), 'lowbit-peers-'))
const planned = plannedRows(peersOf(readFileSync(join(MODEL, 'README.md'), 'utf8')))
const rows: Row[] = []
try {
  for (const row of planned) {
    if (positionals.length > 0 && !positionals.some((word) => row.name.includes(word))) continue
    const done = await measured(row, join(scratch, 'out'))
    console.error(`${done.name}: ${verdict(done)} ${done.ours?.meanKld.toFixed(6) ?? ''}`)
    rows.push(done)
    // Row by row: a run takes long, and what is measured stays measured.
    if (values.record) keep(merged(planned, rows))
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
if (values.record) keep(merged(planned, rows))
console.log(tableOf(rows))
