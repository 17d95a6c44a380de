/** Chat messages to the one text that a model was trained on. */
import { Template } from '@huggingface/jinja'
import { isObject, textOf } from '../bytes.ts'
import { LowbitError } from '../error.ts'
import { readOptional, type Store } from '../store/store.ts'
import { renderWithin } from './render.ts'
import type { Tokenizer } from './tokenizer.ts'

/** One turn of a conversation. */
export interface Message {
  /** `system`, `user`, `assistant`, or what else the model's template knows. */
  readonly role: string
  readonly content: string
}

/** Renders conversations. */
export interface ChatTemplate {
  /**
   * The text up to where the assistant's answer begins, or a conversation as it is when `closed`;
   * `template` when the template fails.
   */
  render(messages: readonly Message[], closed?: boolean): string
}

/** Longest template that is read. */
const TEMPLATE_BYTES_MAX = 1 << 20

/** Opens a model's template: a file of its own, or a member of tokenizer_config.json. */
export async function openTemplate(
  store: Store,
  tokenizer: Tokenizer,
): Promise<ChatTemplate | undefined> {
  const file = await readOptional(store, 'chat_template.jinja', TEMPLATE_BYTES_MAX)
  const place = `${store.place}/${file ? 'chat_template.jinja' : 'tokenizer_config.json'}`
  const source = file ? textOf(file, 'template', place) : templateOf(tokenizer.config)
  return source === undefined ? undefined : chatTemplate(source, tokenizer.roles, place)
}

/** A template from its source; it is parsed when first rendered. */
export function chatTemplate(
  source: string,
  roles: Readonly<Record<string, string>>,
  place: string,
): ChatTemplate {
  let parsed: Template | undefined
  return {
    render(messages, closed = false) {
      checkMessages(messages)
      try {
        parsed ??= new Template(source)
        return renderWithin(parsed, { ...roles, messages, add_generation_prompt: !closed })
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        throw new LowbitError('template', `The chat template failed: ${why}`, {
          place,
          remedy: 'check the roles and order of the messages',
          cause: error,
        })
      }
    },
  }
}

function templateOf(config: Tokenizer['config']): string | undefined {
  const template = config['chat_template']
  if (typeof template === 'string') return template
  if (!Array.isArray(template)) return undefined
  const named: readonly unknown[] = template
  const found = named.find((entry) => isObject(entry) && entry['name'] === 'default')
  const source = isObject(found) ? found['template'] : undefined
  return typeof source === 'string' ? source : undefined
}

function checkMessages(messages: readonly Message[]): void {
  const right = messages.every(
    (message) => typeof message?.role === 'string' && typeof message.content === 'string',
  )
  if (right && messages.length > 0) return
  throw new LowbitError('option', 'Messages must be a list of { role, content } with texts')
}
