/** Calls and reasoning of an answer over several attempts. */
import { workerV1 } from '@causeway/proto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Answer, type AnswerOptions, type AnswerPiece } from './answer.ts';
import { OutputParser } from './output-parser.ts';
import { hermes } from './tool-calls/hermes.ts';

const TEXT =
  'Hm.</think>I look.\n<tool_call>{"name": "add", "arguments": {"a": "<b>"}}</tool_call>\n<tool_call>{"name": "add"}</tool_call>';

/** A token is a character. */
function answer(more: Partial<AnswerOptions> = {}, parallel = true): Answer {
  let ids = 0;
  const calls = { format: hermes, tools: [{ name: 'add', jsonParameters: [] }], parallel, newId: () => `id-${ids++}` };
  return new Answer({
    model: 'm',
    promptIds: [1],
    maxTokens: 1000,
    sampling: workerV1.Sampling.fromPartial({}),
    logprobs: undefined,
    stop: [],
    stopTokenIds: [],
    ignoreEos: false,
    minTokens: 0,
    constraint: undefined,
    placement: undefined,
    detokenizer: { push: (id) => String.fromCharCode(id), flush: () => '' },
    output: new OutputParser({ reasoning: 'open', calls }),
    ...more,
  });
}

/** Tokens of an attempt from a place on; the last is the end of sequence. */
function offer(to: Answer, attempt: number, from: number, end: number): AnswerPiece[] {
  const pieces: AnswerPiece[] = [];
  for (let position = from; position < end; position++) {
    const finishReason = position === TEXT.length ? ('stop' as const) : undefined;
    const id = position === TEXT.length ? 0 : TEXT.charCodeAt(position);
    to.offer({ attempt, position, id, logprob: 0, topLogprobs: [], finishReason, arrivedAt: 0 }, attempt);
    for (let piece = to.take(); piece !== undefined; piece = to.take()) pieces.push(piece);
  }
  return pieces;
}

const parts = (pieces: readonly AnswerPiece[]) => pieces.flatMap((piece) => piece.parts ?? []);

describe('the parts of an answer', () => {
  it('are the same when other workers go on after losses, some of whose tokens come again', () => {
    const whole = answer();
    const expected = parts(offer(whole, 1, 0, TEXT.length + 1));
    expect(expected.filter(({ kind }) => kind === 'call')).toHaveLength(2);
    fc.assert(
      fc.property(fc.array(fc.nat(TEXT.length), { maxLength: 4 }), fc.nat(6), (losses, again) => {
        const subject = answer();
        const ends = [...losses.sort((a, b) => a - b), TEXT.length + 1];
        const pieces = ends.flatMap((end, index) => {
          subject.beginAttempt();
          return offer(subject, index + 1, Math.max(0, subject.emitted.length - again), end);
        });
        expect(parts(pieces)).toEqual(expected);
        expect(pieces.at(-1)?.end).toBe('tool_calls');
      }),
    );
  });

  it('end with the first call where no other is wanted', () => {
    const subject = answer({}, false);
    const pieces = offer(subject, 1, 0, TEXT.length + 1);
    expect(pieces.at(-1)?.end).toBe('tool_calls');
    expect(subject.emitted).toHaveLength(TEXT.indexOf('</tool_call>') + '</tool_call>'.length);
    expect(subject.options.output?.reasoningTokens).toBeGreaterThan(0);
  });

  it('keep the end that max_tokens and stop strings make in the middle of a call', () => {
    const at = TEXT.indexOf('<b>') + 2;
    expect(offer(answer({ maxTokens: at }), 1, 0, TEXT.length + 1).at(-1)?.end).toBe('length');
    expect(offer(answer({ stop: ['<b>'] }), 1, 0, TEXT.length + 1).at(-1)?.end).toBe('stop');
    const between = answer({ stop: ['\n<tool'] });
    const pieces = offer(between, 1, 0, TEXT.length + 1);
    expect([pieces.at(-1)?.end, parts(pieces).some(({ kind }) => kind === 'call')]).toEqual(['stop', false]);
    const after = answer({ stop: ['</tool_call>\n'] });
    const ended = parts(offer(after, 1, 0, TEXT.length + 1));
    expect(ended.map((part) => (part.kind === 'arguments' ? part.text : '')).join('')).toBe('{"a": "<b>"}');
  });

  it('are none where none are looked for', () => {
    const pieces = offer(answer({ output: undefined }), 1, 0, TEXT.length + 1);
    expect(pieces.every((piece) => piece.parts === undefined)).toBe(true);
    expect([pieces.map(({ text }) => text).join(''), pieces.at(-1)?.end]).toEqual([TEXT, 'stop']);
  });
});
