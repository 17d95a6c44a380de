/** Markup out of a text: tags and comments go, what they enclose stays, entities become characters. */
import { decodeHTML } from 'entities'
import { Parser } from 'htmlparser2'

/** Elements whose ends are ends of lines. */
const BLOCKS =
  'address article aside blockquote body br caption center dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main nav ol option p pre section summary table tbody td tfoot th thead title tr ul'
/** Elements that stand inside a line. */
const INLINE =
  'a abbr acronym b base bdi bdo big button canvas cite code col colgroup data del dfn em embed font i iframe img input ins kbd label link map mark meta meter object picture q rp rt ruby s samp select small source span strike strong sub sup svg textarea time tt u var video wbr'
/** Elements whose content is no text for readers. */
const SILENT = new Set(['script', 'style', 'noscript', 'template', 'iframe', 'object', 'svg'])

const blocks = new Set(BLOCKS.split(' '))
const known = new Set([...blocks, ...INLINE.split(' '), ...SILENT])

/** Code and formulas are full of `<`: only what closes or stands alone as HTML does is HTML. */
const IS_HTML = new RegExp(
  `</(?:${[...known].join('|')})\\s*>|<(?:br|hr|p|img)(?:\\s[^<>]*)?/?>|<!--|<!doctype\\s`,
  'i',
)
const HAS_ENTITY = /&(?:[a-z][a-z0-9]{1,30}|#\d{1,7}|#x[0-9a-f]{1,6});/i

/** The text without its markup. */
export function withoutMarkup(text: string): string {
  if (IS_HTML.test(text)) return withoutTags(text)
  return HAS_ENTITY.test(text) ? decodeHTML(text) : text
}

/** Tags that no browser knows are part of the text, as in `a <b or c>`. */
function withoutTags(text: string): string {
  let out = ''
  let silent = 0
  const edge = (name: string, step: number, implied: boolean): void => {
    if (SILENT.has(name)) silent = Math.max(0, silent + step)
    if (silent > 0) return
    if (blocks.has(name) && out !== '' && !out.endsWith('\n')) out += '\n'
    if (!known.has(name) && !implied) out += text.slice(parser.startIndex, parser.endIndex + 1)
  }
  const parser = new Parser(
    {
      onopentag: (name, _, implied) => edge(name, 1, implied),
      onclosetag: (name, implied) => edge(name, -1, implied),
      ontext(data) {
        if (silent === 0) out += data
      },
    },
    { recognizeSelfClosing: true },
  )
  parser.end(text)
  return out
}
