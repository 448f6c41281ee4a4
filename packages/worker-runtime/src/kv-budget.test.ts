import { ServiceError } from '@causeway/errors';
import { DESCRIPTOR_VERSION, type KvDescriptor, type LayerGeometry, pageBytes } from '@causeway/kv';
import { describe, expect, test } from 'vitest';
import { type KvBudget, type KvMemory, planKvMemory, slotTokenBytes } from './kv-budget.ts';

const MIB = 1024 ** 2;

function descriptor(layers: LayerGeometry[]): KvDescriptor {
  return {
    version: DESCRIPTOR_VERSION,
    layers,
    storage: { dtype: 'f32', layout: 'NHD', blockTokens: 16, shards: { count: 1, index: 0 } },
  };
}

/** 45 KiB a token. */
const smollm2 = descriptor(Array.from({ length: 30 }, () => ({ kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 })));
const tinyMoe = descriptor(Array.from({ length: 5 }, () => ({ kind: 'latent', rank: 48, ropeDim: 16 })));

function plan(mib: number, more: Partial<KvBudget> = {}): KvMemory {
  return planKvMemory({ budgetBytes: mib * MIB, descriptor: smollm2, modelContext: 8192, ...more });
}

function refusal(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    expect(error).toBeInstanceOf(ServiceError);
    expect((error as ServiceError).reason).toBe('bad_config');
    return (error as ServiceError).message;
  }
  throw new Error('the budget was accepted');
}

describe('a KV budget', () => {
  test.each([
    [2048, 8, 4096],
    [1024, 3, 4096],
    [512, 2, 2912],
    [128, 2, 720],
    [72, 1, 544],
  ])('of %i MiB holds %i sequences of %i tokens of SmolLM2 when nothing is set', (mib, maxSequences, maxContext) => {
    const chosen = plan(mib);
    expect(chosen).toMatchObject({ maxSequences, maxContext });
    if (mib === 2048) expect(chosen.shrunk).toBeUndefined();
    else expect(chosen.shrunk).toMatch(/has room for .*; 8 x 4096 would take CAUSEWAY_KV_BUDGET_BYTES=1887436800$/);
  });

  test('is never exceeded, and pages hold one full context at least', () => {
    for (let mib = 68; mib < 2500; mib += 13) {
      for (const more of [{}, { maxSequences: 1 }, { modelContext: 777 }]) {
        const { maxSequences, maxContext, pageCount, slotBytes } = plan(mib, more);
        expect(slotBytes).toBe((maxSequences + 1) * maxContext * slotTokenBytes(smollm2.layers));
        expect(slotBytes + pageCount * pageBytes(smollm2)).toBeLessThanOrEqual(mib * MIB);
        expect(pageCount * 16).toBeGreaterThanOrEqual(maxContext);
      }
    }
  });

  test('keeps what is set and shrinks the other', () => {
    expect(plan(512, { maxContext: 1024 })).toMatchObject({ maxSequences: 8, maxContext: 1024 });
    expect(plan(512, { maxContext: 3000 })).toMatchObject({ maxSequences: 1, maxContext: 3000 });
    expect(plan(512, { maxSequences: 8 })).toMatchObject({ maxSequences: 8, maxContext: 1152 });
    expect(plan(512, { maxSequences: 1 })).toMatchObject({ maxSequences: 1, maxContext: 3872 });
  });

  test('never promises more context than the model has', () => {
    expect(plan(2048, { modelContext: 256 })).toMatchObject({ maxSequences: 8, maxContext: 256 });
    expect(plan(2048, { modelContext: 256, maxContext: 4096 })).toMatchObject({ maxContext: 256 });
  });

  test('for a small model holds the defaults', () => {
    expect(planKvMemory({ budgetBytes: 512 * MIB, descriptor: tinyMoe, modelContext: 4096 })).toMatchObject({
      maxSequences: 8,
      maxContext: 4096,
    });
  });

  test('that what is set exceeds is refused with the budget it takes and with what would fit', () => {
    expect(refusal(() => plan(512, { maxSequences: 8, maxContext: 4096 }))).toBe(
      'a KV budget of 536870912 bytes is too small: 9 slots of 4096 tokens take 1698693120 bytes and one context of pages 188743680; ' +
        'raise CAUSEWAY_KV_BUDGET_BYTES to 1887436800, or lower CAUSEWAY_MAX_CONTEXT to 1152',
    );
    expect(refusal(() => plan(512, { maxSequences: 8, maxContext: 2048 }))).toMatch(
      /or lower CAUSEWAY_MAX_CONTEXT to 1152, or CAUSEWAY_MAX_SEQUENCES to 3$/,
    );
    expect(plan(512, { maxSequences: 3, maxContext: 2048 })).toMatchObject({ maxSequences: 3 });
    expect(refusal(() => plan(512, { maxSequences: 4, maxContext: 2048 }))).toMatch(/too small/);
    const needed = Number(/_BYTES to (\d+)/.exec(refusal(() => plan(1)))?.[1]);
    expect(planKvMemory({ budgetBytes: needed, descriptor: smollm2, modelContext: 8192 })).toMatchObject({
      maxSequences: 1,
      maxContext: 512,
    });
  });
});
