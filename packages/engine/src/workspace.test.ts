import type { Segment, ValueSpec } from '@causeway/models';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concreteShape, planSlabs, Workspace } from './workspace.ts';

/** Segment `i` writes `v<i>.0..n-1`; `reads` names values of earlier segments. */
function segmentsOf(plan: readonly { writes: number; width: number; reads: readonly number[] }[]): Segment[] {
  const written: ValueSpec[] = [];
  return plan.map(({ writes, width, reads }, i) => {
    const inputs = reads.length === 0 ? [] : reads.flatMap((r) => written[r % Math.max(1, written.length)] ?? []);
    const outputs = Array.from(
      { length: writes },
      (_, k): ValueSpec => ({ name: `v${i}.${k}`, type: 'f32', shape: ['N', width + k] }),
    );
    written.push(...outputs);
    return {
      name: `s${i}`,
      content: { kind: 'decoder', layers: [] },
      graph: new Uint8Array(),
      weights: () => Promise.resolve(new Map()),
      releaseWeights: () => undefined,
      inputs,
      outputs,
      cacheLayers: [],
    };
  });
}

const plans = fc.array(
  fc.record({
    writes: fc.integer({ min: 1, max: 3 }),
    width: fc.integer({ min: 1, max: 50 }),
    reads: fc.array(fc.nat(40), { maxLength: 4 }),
  }),
  { minLength: 1, maxLength: 12 },
);

describe('planSlabs', () => {
  it('never puts two values that live at once into one slab, and every slab fits all its values', () => {
    fc.assert(
      fc.property(plans, (plan) => {
        const segments = segmentsOf(plan);
        const born = new Map<string, number>();
        const dies = new Map<string, number>();
        segments.forEach((segment, i) => {
          for (const { name } of segment.outputs) {
            born.set(name, i);
            dies.set(name, i);
          }
          for (const { name } of segment.inputs) dies.set(name, i);
        });
        const size = (spec: ValueSpec) =>
          concreteShape(spec.shape, { batch: 1, tokens: 7, logitRows: 1 }).reduce((a, b) => a * b, 4);
        const slabs = planSlabs(segments, size);
        expect(slabs.flatMap((slab) => slab.values).length).toBe(born.size);
        for (const { values, bytes } of slabs) {
          for (const a of values) {
            expect(size(a)).toBeLessThanOrEqual(bytes);
            for (const b of values) {
              if (a === b) continue;
              const apart =
                (dies.get(a.name) as number) < (born.get(b.name) as number) ||
                (dies.get(b.name) as number) < (born.get(a.name) as number);
              expect(apart, `${a.name} and ${b.name}`).toBe(true);
            }
          }
        }
      }),
    );
  });

  it('a long chain of segments needs two buffers, not one per value', () => {
    const chain = segmentsOf(Array.from({ length: 20 }, (_, i) => ({ writes: 1, width: 8, reads: i === 0 ? [] : [i - 1] })));
    expect(planSlabs(chain, () => 100).length).toBe(2);
  });
});

describe('Workspace', () => {
  it('holds every value for the largest runs and names what nothing writes', () => {
    const segments = segmentsOf([{ writes: 1, width: 3, reads: [] }]);
    using workspace = new Workspace(segments, [
      { batch: 4, tokens: 1, logitRows: 4 },
      { batch: 1, tokens: 16, logitRows: 16 },
    ]);
    using prefill = workspace.tensor('v0.0', { batch: 1, tokens: 16, logitRows: 1 });
    expect(prefill.shape).toEqual([16, 3]);
    using decode = workspace.tensor('token_ids', { batch: 4, tokens: 1, logitRows: 4 });
    expect(decode.shape).toEqual([4, 1]);
    expect(() => workspace.tensor('v9.0', { batch: 1, tokens: 1, logitRows: 1 })).toThrow(
      expect.objectContaining({ code: 'internal' }),
    );
  });
});
