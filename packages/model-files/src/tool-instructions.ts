/**
 * Tools for templates that know calls but not tools: DeepSeek's V3, R1 and V3.1 leave it to the user to describe them in the system
 * message, in the form that the model writes calls in (its model card; the template shows it).
 */
import type { ChatMessage } from './chat-template.ts';

const CALLS_BEGIN = '<｜tool▁calls▁begin｜>';

/** Whether `withToolInstructions` knows how a model with this template writes calls. */
export function knowsToolInstructions(template: string): boolean {
  return template.includes(CALLS_BEGIN);
}

/** The messages with the tools described in the system message. */
export function withToolInstructions(
  messages: readonly ChatMessage[],
  tools: readonly object[],
  template: string,
): readonly ChatMessage[] {
  const text = instructions(tools, template);
  const [first, ...others] = messages;
  if (first?.role !== 'system') return [{ role: 'system', content: text }, ...messages];
  return [{ ...first, content: `${first.content}\n\n${text}` }, ...others];
}

interface Described {
  function?: { name?: unknown; description?: unknown; parameters?: unknown };
}

function instructions(tools: readonly object[], template: string): string {
  const inBlock = template.includes('```json');
  const call = inBlock
    ? '<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>'
    : '<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>';
  const described = tools.map((tool) => {
    const { name, description, parameters } = (tool as Described).function ?? {};
    const about = typeof description === 'string' ? `\nDescription: ${description}` : '';
    return `### ${String(name)}${about}\n\nParameters: ${JSON.stringify(parameters ?? {})}`;
  });
  return [
    '## Tools\nYou have access to the following tools:',
    ...described,
    `To call tools, write exactly this, with one call after the other:\n${CALLS_BEGIN}${call}<｜tool▁calls▁end｜>`,
    'NAME is the name of one of these tools, ARGUMENTS is JSON that fits its parameters.',
  ].join('\n\n');
}
