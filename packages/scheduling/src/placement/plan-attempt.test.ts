import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Need, snapshotOf, type WorkerState } from '../snapshot.ts';
import { decidePlacement } from './decide-placement.ts';
import { explainRejections, planAttempt } from './plan-attempt.ts';

function worker(id: string, more: Partial<WorkerState> = {}): WorkerState {
  return {
    id,
    incarnation: id,
    role: id.startsWith('p') ? 'prefill' : 'decode',
    model: 'm',
    contextLength: 1000,
    fingerprint: 'f',
    draining: false,
    capacity: { totalPages: 100, blockTokens: 16, maxSequences: 4 },
    load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 100 },
    rates: { prefillTokensPerSecond: 0, decodeTokensPerSecond: 0 },
    given: { requests: 0, promptTokens: 0 },
    ...more,
  };
}

const need: Need = { model: 'm', promptTokens: 100, maxTokens: 10, sequences: 1, avoid: new Set() };
const byLength = { mode: 'disaggregated', by: 'length' } as const;
const byRequest = { mode: 'disaggregated', by: 'request' } as const;
const local = { mode: 'local', by: 'length' } as const;

describe('decidePlacement', () => {
  const auto = { mode: 'auto', localPrefillTokens: 32 } as const;
  it.each([
    [31, undefined, auto, 'local', 'length'],
    [32, undefined, auto, 'disaggregated', 'length'],
    [500, undefined, { ...auto, mode: 'local' } as const, 'local', 'config'],
    [5, 'disaggregated', { ...auto, mode: 'local' } as const, 'disaggregated', 'request'],
  ] as const)('%i tokens, wish %s, %j: %s by %s', (tokens, wish, options, mode, by) => {
    expect(decidePlacement(tokens, wish, options)).toEqual({ mode, by });
  });
});

describe('planAttempt', () => {
  it('takes the prefill worker that would have read the prompt first, by its measured rate', () => {
    const fast = worker('p-fast', {
      load: { running: 1, waiting: 0, queuedPromptTokens: 900, freePages: 100 },
      rates: { prefillTokensPerSecond: 10_000, decodeTokensPerSecond: 0 },
    });
    const slow = worker('p-slow', { rates: { prefillTokensPerSecond: 100, decodeTokensPerSecond: 0 } });
    expect(planAttempt(snapshotOf([slow, fast, worker('d')]), need, byLength)).toMatchObject({
      kind: 'disaggregated',
      prefill: { id: 'p-fast' },
    });
  });

  it('counts what this router gave and no report shows yet', () => {
    const given = worker('p-0', { given: { requests: 1, promptTokens: 500 } });
    expect(planAttempt(snapshotOf([given, worker('p-1'), worker('d')]), need, byLength)).toMatchObject({
      prefill: { id: 'p-1' },
    });
  });

  it('takes the decode worker with most room, by sequences and by pages', () => {
    const sequences = worker('d-0', { load: { running: 3, waiting: 0, queuedPromptTokens: 0, freePages: 100 } });
    const pages = worker('d-1', { load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 10 } });
    const free = worker('d-2', { load: { running: 1, waiting: 0, queuedPromptTokens: 0, freePages: 90 } });
    expect(planAttempt(snapshotOf([sequences, pages, free]), need, local)).toMatchObject({
      kind: 'local',
      decode: { id: 'd-2' },
    });
  });

  it('pairs workers of one fingerprint only', () => {
    const workers = [
      worker('p-0', { fingerprint: 'x' }),
      worker('p-1', { fingerprint: 'y' }),
      worker('d-0', { fingerprint: 'y' }),
    ];
    expect(planAttempt(snapshotOf(workers), need, byLength)).toMatchObject({ prefill: { id: 'p-1' }, decode: { id: 'd-0' } });
    expect(planAttempt(snapshotOf(workers.slice(0, 1).concat(workers.slice(2))), need, byRequest)).toMatchObject({
      kind: 'none',
      missing: 'decode',
    });
  });

  it('waits for a busy prefill worker, but does without one that isn’t there when length decided', () => {
    const full = worker('p-0', { given: { requests: 2, promptTokens: 5 } });
    expect(planAttempt(snapshotOf([full, worker('d')]), need, byLength).kind).toBe('busy');
    expect(planAttempt(snapshotOf([worker('d')]), need, byLength)).toMatchObject({ kind: 'local' });
    expect(planAttempt(snapshotOf([worker('d')]), need, byRequest)).toMatchObject({ kind: 'none', missing: 'prefill' });
  });

  it.each([
    ['serves another model', { model: 'other' }, 'none'],
    ['drains', { draining: true }, 'none'],
    ['failed before', { incarnation: 'bad' }, 'none'],
    ['has a context too short', { contextLength: 100 }, 'none'],
    ['has too few pages ever', { capacity: { totalPages: 6, blockTokens: 16, maxSequences: 4 } }, 'none'],
    ['is full', { load: { running: 4, waiting: 4, queuedPromptTokens: 0, freePages: 0 } }, 'busy'],
  ])('leaves out a decode worker that %s', (_, more, kind) => {
    const decision = planAttempt(snapshotOf([worker('d', more)]), { ...need, avoid: new Set(['bad']) }, local);
    expect(decision.kind).toBe(kind);
    if (decision.kind === 'none' || decision.kind === 'busy') expect(explainRejections(decision.rejections)).toMatch(/^d \w+/);
  });

  it('counts every answer of a prompt, their pages beside the prompt’s', () => {
    const several = { ...need, sequences: 4 };
    const busy = worker('d-0', { load: { running: 1, waiting: 0, queuedPromptTokens: 0, freePages: 100 } });
    // 7 pages of the prompt are shared.
    const room = (totalPages: number) => worker('d-1', { capacity: { totalPages, blockTokens: 16, maxSequences: 8 } });
    expect(planAttempt(snapshotOf([busy, room(100)]), several, local)).toMatchObject({ kind: 'local', decode: { id: 'd-1' } });
    expect(planAttempt(snapshotOf([room(11)]), several, local)).toMatchObject({ kind: 'local' });
    const refused = planAttempt(snapshotOf([room(10)]), several, local);
    expect(refused.kind === 'none' && explainRejections(refused.rejections)).toBe(
      'd-1 its page pool has 10 pages, and 4 answers need 11',
    );
  });

  it('never chooses a worker that a filter would leave out, whatever the snapshot', () => {
    const state = fc.record({
      role: fc.constantFrom('p', 'd'),
      fingerprint: fc.constantFrom('x', 'y'),
      model: fc.constantFrom('m', 'm', 'n'),
      draining: fc.boolean(),
      running: fc.nat(9),
      given: fc.nat(3),
      free: fc.nat(100),
    });
    fc.assert(
      fc.property(fc.array(state, { maxLength: 8 }), fc.constantFrom(byLength, byRequest, local), (states, placement) => {
        const workers = states.map((s, i) =>
          worker(`${s.role}-${i}`, {
            fingerprint: s.fingerprint,
            model: s.model,
            draining: s.draining,
            load: { running: s.running, waiting: 0, queuedPromptTokens: 0, freePages: s.free },
            given: { requests: s.given, promptTokens: s.given },
          }),
        );
        const decision = planAttempt(snapshotOf(workers), need, placement);
        if (decision.kind !== 'disaggregated' && decision.kind !== 'local') return;
        const { decode } = decision;
        expect([decode.role, decode.model, decode.draining]).toEqual(['decode', 'm', false]);
        expect(decode.load.running).toBeLessThan(8);
        if (decision.kind === 'local') return;
        const { prefill } = decision;
        expect([prefill.role, prefill.model, prefill.draining, prefill.fingerprint]).toEqual([
          'prefill',
          'm',
          false,
          decode.fingerprint,
        ]);
        expect(prefill.given.requests).toBeLessThan(2);
      }),
    );
  });
});
