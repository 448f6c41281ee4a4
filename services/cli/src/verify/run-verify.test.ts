import type { Tokenizer } from '@causeway/model-files';
import { expect, test } from 'vitest';
import type { VerifyBackend } from './backend.ts';
import { summary } from './report.ts';
import { runVerify, type VerifyReport } from './run-verify.ts';

/** A vocabulary of two: token 1 with probability `p`. */
function row(p: number): Float32Array {
  return Float32Array.of(Math.log(1 - p), Math.log(p));
}

/** Answers one token, 1, to a prompt that the reference answers in the same way with probability 0.75. */
function check(p: number, precision: 'exact' | 'fast'): Promise<VerifyReport> {
  const backend: VerifyBackend = {
    name: 'scripted',
    greedy: () => Promise.resolve([{ id: 1, logits: row(p) }]),
    rows: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const messages = [{ role: 'user', content: 'hello' }];
  const reference = {
    messages,
    prompt_ids: [7],
    greedy_ids: [1],
    margins: [1],
    top5: [[[1, Math.log(0.75)] as [number, number]]],
  };
  return runVerify({
    golden: { form: 'messages', cases: [reference] },
    backend,
    precision,
    tokenizer: { encodeChat: () => [7] } as unknown as Tokenizer,
    teacherForced: undefined,
  });
}

test('a log-probability further away than 5e-4 fails in exact mode, than 1.5 in fast mode', async () => {
  expect(await check(0.7502, 'exact')).toMatchObject({ ok: true, tolerance: 5e-4 });
  const far = await check(0.76, 'exact');
  expect(far).toMatchObject({ ok: false, greedyAgreed: 1 });
  expect(far.largestLogprobError).toBeCloseTo(Math.log(0.76 / 0.75), 5);
  expect(summary(far)).toMatch(/^NOT verified: .*largest log-probability distance 1\.32e-2 \(at most 5\.00e-4\); greedy 1\/1$/);
  const fast = await check(0.76, 'fast');
  expect(fast).toMatchObject({ ok: true, tolerance: 1.5 });
  expect(summary(fast)).toMatch(/^verified: .*distance 1\.32e-2 \(at most 1\.50e\+0\); greedy/);
  expect(await check(0.1, 'fast')).toMatchObject({ ok: false });
});

test.each(['exact', 'fast'] as const)('a row that is no number fails in %s mode', async (precision) => {
  expect(await check(Number.NaN, precision)).toMatchObject({ ok: false });
});
