import { workerV1 } from '@causeway/proto';
import { expect, it } from 'vitest';
import { decodeEvent, prefillEvent } from './events.ts';

it('a token carries the time at which it arrived, from either worker', () => {
  const value = workerV1.Token.create({ attempt: 1, position: 2, id: 3 });
  const before = performance.now();
  const events = [
    decodeEvent({ event: { $case: 'token', value } }),
    prefillEvent({ event: { $case: 'firstToken', value: { ...value, logits: new Uint8Array(0) } } }),
  ];
  for (const event of events) {
    if (event.kind !== 'token' && event.kind !== 'first_token') throw new Error(event.kind);
    expect(event.token).toMatchObject({ attempt: 1, position: 2, id: 3 });
    expect(event.token.arrivedAt).toBeGreaterThanOrEqual(before);
    expect(event.token.arrivedAt).toBeLessThanOrEqual(performance.now());
  }
});
