import type { KvStorage } from '@causeway/kv';
import type { WorkerRecord } from '@causeway/registry';
import { decidePlacement, planAttempt, snapshotOf } from '@causeway/scheduling';
import { describe, expect, it } from 'vitest';
import { workerState } from './directory.ts';
import { exchangeOf } from './exchange.ts';

const hex = '0'.repeat(64);

function record(id: string, storage: KvStorage, kvLossy: boolean): WorkerRecord {
  return {
    version: 1,
    id,
    incarnation: `incarnation-${id}`,
    role: id.startsWith('p') ? 'prefill' : 'decode',
    model: 'm',
    architecture: 'llama',
    contextLength: 1000,
    vocabSize: 10,
    eosTokenIds: [],
    chip: 'cpu',
    emulated: false,
    kvLossy,
    fingerprint: { architecture: hex, weights: hex, tokenizer: hex, rope: hex, geometry: hex },
    descriptor: { version: 1, layers: [{ kind: 'full', kvHeads: 2, headDimK: 16, headDimV: 16 }], storage },
    address: '127.0.0.1:1',
    observability: '127.0.0.1:2',
    capacity: { totalPages: 100, blockTokens: storage.blockTokens, maxSequences: 4 },
    startedAt: 0,
    load: { running: 0, waiting: 0, queuedPromptTokens: 0, freePages: 100 },
    rates: { prefillTokensPerSecond: 0, decodeTokensPerSecond: 0 },
    draining: false,
  };
}

const shards = { count: 1, index: 0 };
const f32: KvStorage = { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards };
const nvidia: KvStorage = { dtype: 'bf16', layout: 'HND', blockTokens: 16, shards };
const ascend: KvStorage = { dtype: 'bf16', layout: 'NZ', blockTokens: 128, shards };

function plan(...records: WorkerRecord[]) {
  const states = records.map((worker) => workerState(worker, undefined));
  const need = { model: 'm', promptTokens: 100, maxTokens: 10, sequences: 1, avoid: new Set<string>() };
  const placement = decidePlacement(100, 'disaggregated', { mode: 'auto', localPrefillTokens: 32 });
  return planAttempt(snapshotOf(states, exchangeOf(records)), need, placement);
}

describe('workers whose storages differ', () => {
  it('are paired where nothing is rounded, whatever the layout and the block', () => {
    expect(plan(record('p', nvidia, false), record('d', ascend, false))).toMatchObject({ kind: 'disaggregated' });
    expect(plan(record('p', nvidia, false), record('d', f32, false))).toMatchObject({ kind: 'disaggregated' });
  });

  it('are not paired where numbers would be rounded, and the reason says what allows it', () => {
    for (const lossy of [false, true]) {
      const plans = plan(record('p', f32, lossy), record('d', ascend, !lossy));
      expect(plans).toMatchObject({ kind: 'none', rejections: [{ filter: 'representation' }] });
      expect(JSON.stringify(plans)).toContain('f32 NHD 16 to bf16 NZ 128), which kvLossy must allow at both');
    }
    expect(plan(record('p', f32, true), record('d', ascend, true))).toMatchObject({ kind: 'disaggregated' });
  });

  it('leave a request to another worker that can take its KV', () => {
    const decision = plan(record('p', f32, false), record('d-0', ascend, false), record('d-1', f32, false));
    expect(decision).toMatchObject({ kind: 'disaggregated', decode: { id: 'd-1' } });
  });
});
