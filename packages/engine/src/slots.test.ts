import type { LayerGeometry } from '@causeway/kv';
import type { NativeBuffer } from '@causeway/ort';
import { describe, expect, it } from 'vitest';
import { LoopTime } from './loop-time.ts';
import { Slots } from './slots.ts';

const layers: LayerGeometry[] = [
  { kind: 'full', kvHeads: 2, headDimK: 64, headDimV: 64 },
  { kind: 'latent', rank: 50, ropeDim: 10 },
];

describe('Slots', () => {
  it('binds a latent layer to one arena and pads its width; the prefill row lies after the decode rows', () => {
    using slots = new Slots({ descriptor: { layers }, maxSequences: 3, capacity: 32 }, new LoopTime());
    expect(slots.prefillRow).toBe(3);
    expect(
      slots.sections.map(({ name, heads, slotWidth, pageWidth, pastNames }) => [name, heads, slotWidth, pageWidth, pastNames]),
    ).toEqual([
      ['k.0', 2, 64, 64, ['past_k.0']],
      ['v.0', 2, 64, 64, ['past_v.0']],
      ['latent.1', 1, 64, 60, ['past_k.1', 'past_v.1']],
    ]);
    expect(slots.byteLength).toBe(4 * 32 * 4 * (2 * 64 + 2 * 64 + 64));
    const section = slots.sections[0] as (typeof slots.sections)[number];
    using tensor = slots.tensor(section, 3, 1);
    expect(tensor.shape).toEqual([1, 2, 32, 64]);
    expect(tensor.offset).toBe(3 * 2 * 32 * 64 * 4);
  });

  it('gives the memory of one row back and leaves its neighbours alone', async () => {
    using slots = new Slots({ descriptor: { layers }, maxSequences: 3, capacity: 256 }, new LoopTime());
    for (let row = 0; row < slots.rows; row++) await slots.poison(row);
    await slots.discard(1);
    for (const { memories } of slots.sections) {
      const buffer = memories[0] as NativeBuffer;
      const rowBytes = buffer.byteLength / slots.rows;
      const values = (row: number) => new Set(new Float32Array(buffer.bytes(row * rowBytes, rowBytes).slice().buffer));
      expect(values(1)).toEqual(new Set([0]));
      for (const row of [0, 2, 3]) expect(values(row)).toEqual(new Set([Number.NaN]));
    }
  });
});
