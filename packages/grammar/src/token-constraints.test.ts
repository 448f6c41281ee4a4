import { beforeAll, describe, expect, it } from 'vitest';
import type { Constraint } from './constraint.ts';
import { testTokenizer, type TestTokenizer } from './testing/tokenizers.ts';
import { TokenConstraints } from './token-constraints.ts';
import { allows } from './token-mask.ts';

const OBJECT: Constraint = { kind: 'json_object' };
const choice = (...choices: string[]): Constraint => ({ kind: 'choice', choices });

let test: TestTokenizer;
beforeAll(async () => {
  test = await testTokenizer('byte-level');
});

function start(replaced: unknown[] = []): TokenConstraints {
  const script = new URL('./testing/breaking-worker.ts', import.meta.url);
  return new TokenConstraints({ tokens: test.tokens, script, stallMs: 3_000, onReplaced: (cause) => replaced.push(cause) });
}

const idOf = (text: string): number => test.tokenizer.encodeRendered(text)[0] as number;

describe('TokenConstraints', () => {
  it('gives the masks of several texts as they go on', async () => {
    await using constraints = start();
    using a = constraints.open(OBJECT, [test.end], []);
    using b = constraints.open(choice('abc', 'abd'), [test.end], test.tokenizer.encodeRendered('ab'));
    expect(allows(await a.mask(), idOf('{'))).toBe(true);
    expect(allows(await a.mask(), idOf('a'))).toBe(false);
    expect([idOf('c'), idOf('d'), idOf('{')].map((id) => [id, true])).toEqual([
      [idOf('c'), allows(await b.mask(), idOf('c'))],
      [idOf('d'), allows(await b.mask(), idOf('d'))],
      [idOf('{'), !allows(await b.mask(), idOf('{'))],
    ]);
    a.accept(idOf('{'));
    b.accept(idOf('d'));
    expect(allows(await a.mask(), idOf('}'))).toBe(true);
    expect(allows(await b.mask(), test.end)).toBe(true);
  });

  it('fails a text whose constraint cannot be compiled, and no other', async () => {
    await using constraints = start();
    using bad = constraints.open({ kind: 'json_schema', schema: '{"type":7}' }, [test.end], []);
    using good = constraints.open(OBJECT, [test.end], []);
    await expect(bad.mask()).rejects.toMatchObject({ code: 'invalid_argument', reason: 'bad_request' });
    bad.accept(5);
    await expect(bad.mask()).rejects.toMatchObject({ reason: 'bad_request' });
    expect(allows(await good.mask(), idOf('{'))).toBe(true);
  });

  it.each(['hang', 'crash', 'throw', 'grow'])(
    'replaces a thread that is made to %s: others go on, who did it twice fails',
    async (what) => {
      const replaced: unknown[] = [];
      await using constraints = start(replaced);
      using before = constraints.open(OBJECT, [test.end], []);
      await before.mask();
      before.accept(idOf('{'));
      await before.mask();
      using breaking = constraints.open(choice(what), [test.end], []);
      using after = constraints.open(choice('yes'), [test.end], []);
      await expect(breaking.mask()).rejects.toMatchObject({ code: 'invalid_argument', field: 'response_format' });
      expect(replaced).toHaveLength(2);
      expect(allows(await after.mask(), idOf('y'))).toBe(true);
      // It was opened anew with the tokens that it had.
      before.accept(idOf('}'));
      expect(allows(await before.mask(), test.end)).toBe(true);
    },
  );

  it('ends who waits when it ends, and takes nobody in then', async () => {
    const constraints = start();
    const waiting = constraints.open(choice('hang'), [test.end], []);
    const closed = constraints.open(OBJECT, [test.end], []);
    closed[Symbol.dispose]();
    await expect(closed.mask()).rejects.toMatchObject({ reason: 'cancelled' });
    await constraints[Symbol.asyncDispose]();
    await expect(waiting.mask()).rejects.toMatchObject({ reason: 'draining' });
    expect(() => constraints.open(OBJECT, [test.end], [])).toThrow(/shutting down/);
  });
});
