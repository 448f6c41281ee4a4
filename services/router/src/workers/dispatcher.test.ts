import type { WorkerRecord } from '@causeway/registry';
import { describe, expect, it } from 'vitest';
import type { WorkerDirectory } from './directory.ts';
import { type Ask, Dispatcher, type Places } from './dispatcher.ts';

function record(id: string, more: Partial<WorkerRecord> = {}): WorkerRecord {
  const hex = '0'.repeat(64);
  return {
    version: 1,
    id,
    incarnation: `${id}-incarnation`,
    role: id.startsWith('prefill') ? 'prefill' : 'decode',
    model: 'm',
    architecture: 'llama',
    contextLength: 100,
    vocabSize: 10,
    eosTokenIds: [],
    chip: 'cpu',
    emulated: false,
    fingerprint: { architecture: hex, weights: hex, tokenizer: hex, rope: hex, geometry: hex },
    descriptor: {
      version: 1,
      layers: [],
      storage: { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
    },
    address: `${id}:1`,
    observability: `${id}:2`,
    capacity: { totalPages: 100, blockTokens: 16, maxSequences: 1 },
    startedAt: 0,
    load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 100 },
    rates: { prefillTokensPerSecond: 0, decodeTokensPerSecond: 0 },
    draining: false,
    ...more,
  };
}

class Directory implements WorkerDirectory {
  records: WorkerRecord[];
  readonly #listeners = new Set<() => void>();

  constructor(...records: WorkerRecord[]) {
    this.records = records;
  }
  workers(): readonly WorkerRecord[] {
    return this.records;
  }
  remove(): void {}
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
  set(...records: WorkerRecord[]): void {
    this.records = records;
    for (const listener of this.#listeners) listener();
  }
}

function ask(more: Partial<Ask> = {}): Ask {
  return {
    need: { model: 'm', promptTokens: 10, maxTokens: 5, sequences: 1, avoid: new Set() },
    placement: { mode: 'disaggregated', by: 'config' },
    waitMs: 10_000,
    patient: false,
    ...more,
  };
}

const never = new AbortController().signal;

describe('Dispatcher', () => {
  it('gives a prefill worker two requests at most; the next waits for a place, oldest first', async () => {
    const directory = new Directory(
      record('prefill-0'),
      record('decode-0', { capacity: { totalPages: 100, blockTokens: 16, maxSequences: 9 } }),
    );
    using dispatcher = new Dispatcher(directory, { maxQueue: 10 });
    const first = await dispatcher.acquire(ask(), never);
    const second = await dispatcher.acquire(ask(), never);
    const order: number[] = [];
    const waiting = [3, 4].map((n) =>
      dispatcher.acquire(ask(), never).then((places) => {
        order.push(n);
        return places;
      }),
    );
    expect(dispatcher.waiting).toBe(2);
    first.releasePrefill();
    const third = (await waiting[0]) as Places;
    expect([order, dispatcher.waiting]).toEqual([[3], 1]);
    second[Symbol.dispose]();
    await waiting[1];
    expect(order).toEqual([3, 4]);
    third[Symbol.dispose]();
  });

  it('gives places back once, however often they are released', async () => {
    using dispatcher = new Dispatcher(new Directory(record('prefill-0'), record('decode-0')), { maxQueue: 10 });
    const places = await dispatcher.acquire(ask(), never);
    expect(dispatcher.addresses).toEqual(['prefill-0:1', 'decode-0:1']);
    places.releasePrefill();
    places.releasePrefill();
    places[Symbol.dispose]();
    places[Symbol.dispose]();
    expect(dispatcher.addresses).toEqual([]);
  });

  it('refuses at once when nobody can serve it, and when the line is full', async () => {
    const directory = new Directory(record('prefill-0'));
    using dispatcher = new Dispatcher(directory, { maxQueue: 0 });
    await expect(dispatcher.acquire(ask(), never)).rejects.toMatchObject({ reason: 'no_workers', retryAfterSeconds: 2 });
    directory.set(record('prefill-0'), record('decode-0'));
    await dispatcher.acquire(ask(), never);
    await dispatcher.acquire(ask(), never);
    await expect(dispatcher.acquire(ask(), never)).rejects.toMatchObject({ reason: 'queue_full', code: 'resource_exhausted' });
    expect(dispatcher.waiting).toBe(0);
  });

  it('is patient when asked: a worker that joins is used', async () => {
    const directory = new Directory();
    using dispatcher = new Dispatcher(directory, { maxQueue: 10 });
    const waiting = dispatcher.acquire(ask({ patient: true }), never);
    directory.set(record('prefill-0'), record('decode-0'));
    expect((await waiting).decode.id).toBe('decode-0');
  });

  it('ends a wait with the signal or with the time, and forgets it', async () => {
    const directory = new Directory(
      record('prefill-0'),
      record('decode-0', { load: { running: 9, waiting: 9, queuedPromptTokens: 0, freePages: 0 } }),
    );
    using dispatcher = new Dispatcher(directory, { maxQueue: 10 });
    const gone = new AbortController();
    const waiting = dispatcher.acquire(ask(), gone.signal);
    gone.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await expect(dispatcher.acquire(ask({ waitMs: 5 }), never)).rejects.toMatchObject({ reason: 'no_capacity' });
    expect(dispatcher.waiting).toBe(0);
  });

  it('avoids a worker that failed, unless it is the only one', async () => {
    const directory = new Directory(record('decode-0'), record('decode-1'));
    using dispatcher = new Dispatcher(directory, { maxQueue: 10 });
    const local = { mode: 'local' as const, by: 'config' as const };
    const avoid = new Set(['decode-0-incarnation']);
    const need = { model: 'm', promptTokens: 10, maxTokens: 5, sequences: 1, avoid };
    using places = await dispatcher.acquire(ask({ need, placement: local }), never);
    expect(places.decode.id).toBe('decode-1');
    directory.set(record('decode-0'));
    using again = await dispatcher.acquire(ask({ need, placement: local }), never);
    expect(again.decode.id).toBe('decode-0');
  });
});
