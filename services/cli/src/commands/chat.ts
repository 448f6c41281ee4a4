import { createInterface } from 'node:readline/promises';
import { readRunState } from '../cluster/run-state.ts';
import { fail, ServiceError } from '@causeway/errors';
import type { RunPaths } from '../paths.ts';
import { type RouterAddress, servedModel } from '../prompt/router-call.ts';
import { shown } from '../prompt/shown.ts';
import { type Message, streamChat } from '../prompt/stream-chat.ts';
import { summarizeAnswer } from '../prompt/summary.ts';
import type { Output } from '../terminal/output.ts';

export interface ChatOptions {
  /** Router to talk to; default the cluster of this checkout. */
  url: string | undefined;
  /** Default the first that the router serves. */
  model: string | undefined;
  system: string | undefined;
  maxTokens: number | undefined;
  temperature: number | undefined;
  /** The key that the router wants. */
  apiKey: string | undefined;
}

const MODELS_TIMEOUT_MS = 10_000;
const HELP = '/exit ends, /new forgets the conversation, Ctrl-C stops an answer';

/** A conversation in the terminal. Reads lines from standard input, so it can be piped into; ends at its end, `/exit` or Ctrl-C at the prompt. */
export async function chat(
  options: ChatOptions,
  deps: { paths: RunPaths; out: Output; input: NodeJS.ReadStream; output: NodeJS.WriteStream },
): Promise<number> {
  const { out } = deps;
  const target = await findTarget(options, deps.paths);
  const terminal = deps.input.isTTY === true;
  const lines = createInterface({ input: deps.input, output: deps.output, terminal, prompt: '> ', historySize: 200 });
  let answering: AbortController | undefined;
  let failed = false;
  lines.on('SIGINT', () => (answering === undefined ? lines.close() : answering.abort(new Error('stopped'))));
  const opening: Message[] = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
  let messages = [...opening];
  if (terminal) out.line(`${target.model} at ${target.baseUrl} · ${HELP}`);
  if (terminal) lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === '/exit' || text === '/quit') break;
    if (text === '/new') messages = [...opening];
    else if (text === '/help') out.line(HELP);
    else if (text !== '') {
      messages.push({ role: 'user', content: text });
      answering = new AbortController();
      const reply = await answer(messages, target, options, answering.signal, out);
      answering = undefined;
      failed = reply === undefined;
      // A question without an answer is not part of the conversation.
      if (reply === undefined) messages.pop();
      else messages.push({ role: 'assistant', content: reply });
    }
    if (terminal) lines.prompt();
  }
  lines.close();
  return failed && !terminal ? 1 : 0;
}

interface Target extends RouterAddress {
  model: string;
}

async function findTarget(options: ChatOptions, paths: RunPaths): Promise<Target> {
  const state = readRunState(paths);
  const baseUrl = options.url?.replace(/\/(v1\/?)?$/, '') ?? state?.httpUrl;
  if (baseUrl === undefined) {
    return fail(
      'failed_precondition',
      'not_ready',
      'no cluster of this checkout is up; start one with ./causeway up, or name a router with --url',
    );
  }
  const ours = options.url === undefined ? state?.models[0]?.name : undefined;
  const router = { baseUrl, apiKey: options.apiKey };
  return { ...router, model: options.model ?? ours ?? (await servedModel(router, AbortSignal.timeout(MODELS_TIMEOUT_MS))) };
}

/** Streams one answer; its text, also when it was stopped half-way, or undefined after an error. */
async function answer(
  messages: readonly Message[],
  target: Target,
  options: ChatOptions,
  signal: AbortSignal,
  out: Output,
): Promise<string | undefined> {
  let text = '';
  const { onText, onReasoning } = shown(out, (piece) => {
    text += piece;
  });
  const { maxTokens, temperature } = options;
  const wishes = { ...(maxTokens === undefined ? {} : { maxTokens }), ...(temperature === undefined ? {} : { temperature }) };
  try {
    const result = await streamChat({ ...target, messages, signal, onText, onReasoning, ...wishes });
    out.line();
    out.line(out.dim(summarizeAnswer(result)));
    return text;
  } catch (error) {
    out.line();
    if (signal.aborted) {
      out.line(out.dim('stopped'));
      return text;
    }
    out.warn(`${out.red('error')}: ${ServiceError.from(error).message}`);
    return undefined;
  }
}
