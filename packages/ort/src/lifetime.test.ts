import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Lifetime } from './lifetime.ts';

test('whatever the order of holds, drops and ends, an object is freed once, when it was ended and nothing holds it', () => {
  const step = fc.oneof(
    fc.constant({ do: 'hold' } as const),
    fc.constant({ do: 'end' } as const),
    fc.record({ do: fc.constant('drop' as const), which: fc.nat(9) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      let frees = 0;
      const lifetime = new Lifetime('a thing', () => void frees++);
      const holds: { hold: Disposable; held: boolean }[] = [];
      let ended = false;
      for (const action of steps) {
        if (action.do === 'end') {
          lifetime.end();
          ended = true;
        } else if (action.do === 'hold') {
          if (ended) expect(() => lifetime.hold()).toThrow(/a thing was used after it was disposed/);
          else holds.push({ hold: lifetime.hold(), held: true });
        } else {
          const target = holds[action.which];
          target?.hold[Symbol.dispose]();
          if (target !== undefined) target.held = false;
        }
        expect(frees).toBe(ended && holds.every(({ held }) => !held) ? 1 : 0);
      }
    }),
  );
});
