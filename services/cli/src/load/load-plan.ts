/** Which requests are sent, and when. */
import { readFileSync } from 'node:fs';
import { fail } from '@causeway/errors';
import { z } from 'zod';

export interface PlannedRequest {
  /** When it is sent, in milliseconds from the start; undefined: as soon as an earlier one has ended. */
  atMs: number | undefined;
  /** About so many tokens of prompt, in blocks of text that requests with the same id share from the start on. */
  blocks: readonly { id: number; tokens: number }[];
  /** `max_tokens`. */
  outputTokens: number;
}

/** A small generator of uniform numbers in (0, 1): the same seed gives the same load (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32 + 2 ** -33;
  };
}

export interface UniformLoad {
  requests: number;
  promptTokens: number;
  outputTokens: number;
  seed: number;
}

const OWN_BLOCKS = 2 ** 40;

/** Requests of one size, each with a prompt of its own. `rate`: Poisson arrivals per second; undefined: nothing but order. */
export function uniformLoad(o: UniformLoad, rate: number | undefined): PlannedRequest[] {
  const random = uniform(o.seed);
  let atMs = 0;
  return Array.from({ length: o.requests }, (_, i) => {
    // Times between Poisson arrivals are exponential.
    if (i > 0 && rate !== undefined) atMs += (-Math.log(random()) / rate) * 1000;
    return {
      atMs: rate === undefined ? undefined : atMs,
      blocks: [{ id: OWN_BLOCKS + o.seed * 1_000_003 + i, tokens: o.promptTokens }],
      outputTokens: o.outputTokens,
    };
  });
}

/** Tokens of one block of a trace (Mooncake, FAST '25). */
const TRACE_BLOCK = 512;
const MOST_TOKENS = 10_000_000;

const traceLine = z.object({
  timestamp: z.number().nonnegative(),
  input_length: z.int().positive().max(MOST_TOKENS),
  output_length: z.int().positive().max(MOST_TOKENS),
  hash_ids: z.array(z.int().nonnegative()).max(MOST_TOKENS).default([]),
});

export interface TraceOptions {
  /** Only the first so many requests. */
  requests: number | undefined;
  /** How much faster than recorded it is played. */
  speed: number;
  /** Longer prompts and answers are cut to these. */
  maxPromptTokens: number;
  maxOutputTokens: number;
}

/**
 * Reads a trace in Mooncake's form, a JSON object a line: timestamp (ms), input_length, output_length (tokens), hash_ids (of the
 * prompt's blocks of 512 tokens; equal ids are equal text, so that prefix caches work as they would have).
 * @throws ServiceError `file_unreadable` or `malformed_file` with the line and what is wrong in it
 */
export function traceLoad(path: string, o: TraceOptions): PlannedRequest[] {
  let lines: string[];
  try {
    lines = readFileSync(path, 'utf8').split('\n');
  } catch (cause) {
    fail('not_found', 'file_unreadable', `the trace ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  const planned: PlannedRequest[] = [];
  let last = 0;
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') continue;
    if (planned.length === o.requests) break;
    const request = parseLine(path, i + 1, line);
    if (request.timestamp < last) {
      fail(
        'invalid_argument',
        'malformed_file',
        `${path}, line ${i + 1}: its timestamp ${request.timestamp} is before the line above`,
      );
    }
    last = request.timestamp;
    planned.push({
      atMs: request.timestamp / o.speed,
      blocks: blocksOf(request.hash_ids, Math.min(request.input_length, o.maxPromptTokens), i),
      outputTokens: Math.min(request.output_length, o.maxOutputTokens),
    });
  }
  const first = planned[0]?.atMs;
  if (first === undefined) fail('invalid_argument', 'malformed_file', `the trace ${path} has no request`);
  return planned.map((request) => ({ ...request, atMs: (request.atMs ?? 0) - first }));
}

function parseLine(path: string, number: number, line: string): z.infer<typeof traceLine> {
  let problem: string;
  try {
    const parsed = traceLine.safeParse(JSON.parse(line));
    if (parsed.success) return parsed.data;
    problem = z.prettifyError(parsed.error);
  } catch (error) {
    problem = `not JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
  return fail('invalid_argument', 'malformed_file', `${path}, line ${number}: ${problem}`);
}

/** Blocks that the trace names, and one of the request's own for what is left. */
function blocksOf(ids: readonly number[], tokens: number, line: number): PlannedRequest['blocks'] {
  const blocks = ids
    .slice(0, Math.ceil(tokens / TRACE_BLOCK))
    .map((id, i) => ({ id, tokens: Math.min(TRACE_BLOCK, tokens - i * TRACE_BLOCK) }));
  const rest = tokens - blocks.reduce((sum, block) => sum + block.tokens, 0);
  return rest > 0 ? [...blocks, { id: OWN_BLOCKS + line, tokens: rest }] : blocks;
}

/** Words that most tokenizers know as one token with the space before them. */
const WORDS = (
  'time year people way day man thing woman life child world school state family student group country problem hand part place case week ' +
  'company system program question work government number night point home water room mother area money story fact month lot right study ' +
  'book eye job word business issue side kind head house service friend father power hour game line end member law car city community name'
).split(' ');

/** Text of about so many tokens, a word each; the same id gives the same text. What it really takes is for the server to count. */
export function promptText(blocks: PlannedRequest['blocks']): string {
  return blocks
    .flatMap(({ id, tokens }) => {
      const random = uniform((id % 2 ** 31) ^ Math.floor(id / 2 ** 31));
      return Array.from({ length: tokens }, () => WORDS[Math.floor(random() * WORDS.length)]);
    })
    .join(' ');
}
