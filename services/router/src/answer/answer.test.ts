import { workerV1 } from '@causeway/proto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Answer, type AnswerOptions, type AnswerPiece } from './answer.ts';

/** Every token is a letter. */
function detokenizer(): AnswerOptions['detokenizer'] {
  return { push: (id) => String.fromCharCode(97 + id), flush: () => '' };
}

function answer(more: Partial<AnswerOptions> = {}): Answer {
  return new Answer({
    model: 'm',
    promptIds: [1, 2],
    maxTokens: 100,
    sampling: workerV1.Sampling.fromPartial({ topP: 1, seed: 1n }),
    logprobs: undefined,
    stop: [],
    stopTokenIds: [],
    ignoreEos: false,
    minTokens: 0,
    constraint: undefined,
    placement: undefined,
    detokenizer: detokenizer(),
    ...more,
  });
}

type Token = Parameters<Answer['offer']>[0];

function token(position: number, more: Partial<Token> = {}): Token {
  const known = { logprob: 0, topLogprobs: [], finishReason: undefined, arrivedAt: 0 };
  return { attempt: 1, position, id: position % 26, ...known, ...more };
}

function drain(of: Answer): AnswerPiece[] {
  const pieces: AnswerPiece[] = [];
  for (let piece = of.take(); piece !== undefined; piece = of.take()) pieces.push(piece);
  return pieces;
}

describe('Answer', () => {
  it('gives tokens in order, each once, whatever order and attempt they come in', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ position: fc.nat(9), attempt: fc.constantFrom(1, 2) }), { maxLength: 60 }), (offers) => {
        const subject = answer();
        const given: number[] = [];
        for (const { position, attempt } of offers) {
          subject.offer(token(position, { attempt }), 2);
          given.push(...drain(subject).map((piece) => piece.position));
        }
        const current = new Set(offers.filter((offer) => offer.attempt === 2).map((offer) => offer.position));
        let expected = 0;
        while (current.has(expected)) expected++;
        expect(given).toEqual(Array.from({ length: expected }, (_, i) => i));
      }),
    );
  });

  it('says where the text of each token begins, in characters', () => {
    const texts = ['a', '😀', '', 'bc', ''];
    const subject = answer({ detokenizer: { push: (id) => texts[id] ?? '', flush: () => '' } });
    for (const position of texts.keys()) subject.offer(token(position), 1);
    expect(drain(subject).map((piece) => piece.offset)).toEqual([0, 1, 2, 2, 4]);
  });

  it('keeps the time at which a token came, whenever its piece is taken', () => {
    const subject = answer();
    subject.offer(token(1, { arrivedAt: 20 }), 1);
    subject.offer(token(0, { arrivedAt: 10 }), 1);
    subject.offer(token(1, { arrivedAt: 99 }), 1);
    expect(drain(subject).map((piece) => piece.arrivedAt)).toEqual([10, 20]);
  });

  it('knows a gap from an answer that waits', () => {
    const subject = answer();
    expect(subject.hasGap).toBe(false);
    subject.offer(token(1), 1);
    expect([subject.hasGap, subject.take()]).toEqual([true, undefined]);
    subject.offer(token(0), 1);
    expect([subject.hasGap, drain(subject).map((piece) => piece.text)]).toEqual([false, ['a', 'b']]);
  });

  it('forgets early tokens of a lost attempt', () => {
    const subject = answer();
    subject.offer(token(3), 1);
    subject.beginAttempt();
    for (const position of [0, 1, 2]) subject.offer(token(position, { attempt: 2 }), 2);
    expect(drain(subject)).toHaveLength(3);
  });

  it('ends with the token that says so; an end-of-sequence token has no text', () => {
    const subject = answer();
    subject.offer(token(0), 1);
    subject.offer(token(1, { finishReason: 'stop' }), 1);
    subject.offer(token(2), 1);
    expect(drain(subject)).toMatchObject([
      { text: 'a', end: undefined },
      { text: '', end: 'stop' },
    ]);
    expect(subject.emitted).toEqual([0, 1]);
  });

  it('passes over stop strings within its least number of tokens', () => {
    const subject = answer({ stop: ['b', 'd'], minTokens: 3 });
    for (const position of [0, 1, 2, 3]) subject.offer(token(position), 1);
    expect(drain(subject).map(({ text, end }) => [text, end])).toEqual([
      ['a', undefined],
      ['b', undefined],
      ['c', undefined],
      ['', 'stop'],
    ]);
  });

  it('ends at max_tokens even when the worker goes on', () => {
    const subject = answer({ maxTokens: 2 });
    for (const position of [0, 1, 2]) subject.offer(token(position), 1);
    expect(drain(subject)).toMatchObject([{ end: undefined }, { end: 'length' }]);
  });

  it('holds text that may be a stop string and gives it when the answer ends otherwise', () => {
    const subject = answer({ stop: ['bcd'], maxTokens: 3 });
    for (const position of [0, 1, 2]) subject.offer(token(position), 1);
    expect(drain(subject).map((piece) => piece.text)).toEqual(['a', '', 'bc']);
    const stopped = answer({ stop: ['bcd'] });
    for (const position of [0, 1, 2, 3]) stopped.offer(token(position), 1);
    expect(drain(stopped)).toMatchObject([{ text: 'a' }, { text: '' }, { text: '' }, { text: '', end: 'stop' }]);
  });
});
