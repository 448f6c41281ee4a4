import { describe, expect, it } from 'vitest';
import { merge } from './merge.ts';

/** Yields `count` items once its gate opens; notes its end. */
function source(name: string, count: number, log: string[], gate?: Promise<void>): AsyncIterable<string> {
  return (async function* () {
    log.push(`${name} begins`);
    try {
      await gate;
      for (let i = 0; i < count; i++) yield `${name}${i}`;
    } finally {
      log.push(`${name} ends`);
    }
  })();
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const nothing = { stop: () => undefined };

describe('merge', () => {
  it('gives every item once, in order within its source', async () => {
    const items = await all(merge([source('a', 5, []), source('b', 3, []), source('c', 0, [])], nothing));
    expect(items.filter((item) => item.startsWith('a'))).toEqual(['a0', 'a1', 'a2', 'a3', 'a4']);
    expect(items.filter((item) => item.startsWith('b'))).toEqual(['b0', 'b1', 'b2']);
    expect(items).toHaveLength(8);
    expect(await all(merge([], nothing))).toEqual([]);
  });

  it('does not wait for a source that has nothing yet', async () => {
    const gate = Promise.withResolvers<void>();
    const merged = merge([source('slow', 1, [], gate.promise), source('a', 2, [])], nothing);
    expect((await merged.next()).value).toBe('a0');
    expect((await merged.next()).value).toBe('a1');
    gate.resolve();
    expect(await all(merged)).toEqual(['slow0']);
  });

  it('reads so many sources at a time, in their order, and no further than it is read itself', async () => {
    const log: string[] = [];
    const merged = merge([source('a', 9, log), source('b', 9, log), source('c', 9, log)], { ...nothing, atOnce: 2 });
    await merged.next();
    await new Promise((resolve) => setImmediate(resolve));
    expect(log).toEqual(['a begins', 'b begins']);
    expect(await all(merged)).toHaveLength(26);
    expect(log.filter((line) => line.endsWith('ends'))).toHaveLength(3);
  });

  it('ends all sources when it is left early, those that wait by `stop`', async () => {
    const log: string[] = [];
    const gate = Promise.withResolvers<void>();
    const stop = (): void => gate.reject(new Error('stopped'));
    for await (const item of merge([source('a', 9, log), source('stuck', 9, log, gate.promise)], { stop })) {
      if (item === 'a2') break;
    }
    expect(log.filter((line) => line.endsWith('ends')).sort()).toEqual(['a ends', 'stuck ends']);
  });

  it('fails with the first failure, and nothing runs afterwards', async () => {
    const log: string[] = [];
    const gate = Promise.withResolvers<void>();
    const broken = (async function* () {
      yield 'x';
      throw new Error('broken');
    })();
    const stop = (): void => gate.resolve();
    await expect(all(merge([broken, source('stuck', 2, log, gate.promise)], { stop }))).rejects.toThrow('broken');
    expect(log).toEqual(['stuck begins', 'stuck ends']);
  });
});
