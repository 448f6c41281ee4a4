import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KV_CODECS, type KvCodec } from './codec.ts';
import { CodecMeasures, type EncodedFigures } from './codec-measures.ts';
import { CodecPolicy, type CodecPolicyOptions } from './codec-policy.ts';

/** Raw bytes, encoded bytes, ms to encode and to decode of each codec. */
type Speeds = Record<KvCodec, { encoded: number; encodeMs: number; decodeMs: number }>;
const RAW = 1e6;
const MIB = 1.048576;
const SPEEDS: Speeds = {
  none: { encoded: 1e6, encodeMs: 0.3, decodeMs: 0.3 },
  zstd: { encoded: 8e5, encodeMs: 3, decodeMs: 1.2 },
  'planes+zstd': { encoded: 6.7e5, encodeMs: 2.5, decodeMs: 1.8 },
};

function policyOf(bandwidth: number | undefined, options: Partial<CodecPolicyOptions> = {}, speeds: Speeds | 'unknown' = SPEEDS) {
  const link = { bandwidth };
  const policy = new CodecPolicy({ accepted: KV_CODECS, link, measures: new CodecMeasures(), ...options });
  if (speeds !== 'unknown') observe(policy, speeds);
  return { policy, link };
}

function observe(policy: CodecPolicy, speeds: Speeds, parts = 10): void {
  for (const codec of KV_CODECS) {
    for (let i = 0; i < parts; i++) {
      policy.encoded(codec, encodedPart(speeds[codec]));
      policy.decoded(codec, RAW, speeds[codec].decodeMs);
    }
  }
}

/** A part, encoded on a processor of its own, or on one that others have for so large a share of the time. */
function encodedPart({ encoded, encodeMs }: Pick<Speeds[KvCodec], 'encoded' | 'encodeMs'>, waiting = 0): EncodedFigures {
  return { rawBytes: RAW, encodedBytes: encoded, encodeMs, encodeCpuMs: encodeMs * (1 - waiting) };
}

/** When the last of `parts` parts is decoded: each stage takes one part at a time, in order. */
function pipeline({ encoded, encodeMs, decodeMs }: Speeds[KvCodec], bandwidth: number, parts: number): number {
  const stages = [encodeMs, encoded / bandwidth, decodeMs];
  const freeAt = stages.map(() => 0);
  for (let part = 0; part < parts; part++) {
    let at = 0;
    for (const [i, ms] of stages.entries()) {
      at = Math.max(at, freeAt[i] as number) + ms;
      freeAt[i] = at;
    }
  }
  return freeAt.at(-1) as number;
}

describe('CodecPolicy', () => {
  test('sends raw where the link outruns the codecs, and says why', () => {
    const { policy } = policyOf(1_250_000);
    expect(policy.decision(50)).toEqual({
      codec: 'none',
      reason: expect.stringMatching(
        /in each of 50 parts: none [\d.]+, zstd [\d.]+, planes\+zstd [\d.]+; the link carries 1250\.0 MB\/s/,
      ),
    });
  });

  test('compresses where the link is the bottleneck, and follows it when it changes', () => {
    const { policy, link } = policyOf(6250);
    expect(policy.decision(50).codec).toBe('planes+zstd');
    link.bandwidth = 1_250_000;
    expect(policy.decision(50).codec).toBe('none');
  });

  test('counts the slowest stage for every part, the others once', () => {
    const { policy } = policyOf(200_000);
    // 5 ms of link, 3.35 ms when compressed
    expect(policy.cost('none', 10)).toBeCloseTo(MIB * (5 + 0.6 / 10), 6);
    expect(policy.cost('planes+zstd', 10)).toBeCloseTo(MIB * (3.35 + 4.3 / 10), 6);
    expect(policy.decision(10).codec).toBe('planes+zstd');
    // a single part goes through all three
    expect(policy.cost('planes+zstd', 1)).toBeCloseTo(MIB * 7.65, 6);
    expect(policy.decision(1).codec).toBe('none');
  });

  test('what it chooses is never slower than the best codec in a pipeline of such stages', () => {
    const ms = fc.double({ min: 0.05, max: 50, noNaN: true });
    const speed = fc.record({ encoded: fc.double({ min: 1e5, max: 1e6, noNaN: true }), encodeMs: ms, decodeMs: ms });
    const speeds = fc.record({ none: speed, zstd: speed, 'planes+zstd': speed });
    fc.assert(
      fc.property(
        speeds,
        fc.double({ min: 1e3, max: 2e6, noNaN: true }),
        fc.integer({ min: 1, max: 80 }),
        (all, bandwidth, parts) => {
          const { policy } = policyOf(bandwidth, {}, all);
          const times = KV_CODECS.map((codec) => pipeline(all[codec], bandwidth, parts));
          const chosen = pipeline(all[policy.decision(parts).codec], bandwidth, parts);
          expect(chosen).toBeLessThanOrEqual(Math.min(...times) * (1 + 1e-9));
        },
      ),
    );
  });

  test('where processors are scarce, stages take turns', () => {
    const { policy } = policyOf(200_000);
    expect(policy.decision(1000).codec).toBe('planes+zstd');
    for (let i = 0; i < 60; i++) policy.encoded('planes+zstd', encodedPart(SPEEDS['planes+zstd'], 0.75));
    // of what the slowest stage isn't, three quarters count for every part
    expect(policy.cost('planes+zstd', 1e9)).toBeCloseTo(MIB * (3.35 + 0.75 * 4.3), 2);
    expect(policy.decision(1000).codec).toBe('none');
  });

  test('two threads encode twice as much', () => {
    const { policy } = policyOf(1_250_000, { threads: 2 });
    expect(policy.cost('zstd', 1e9)).toBeCloseTo(MIB * 1.5, 3);
    expect(policy.cost('none', 1e9)).toBeCloseTo(MIB * 0.8, 3);
  });

  test('one part that was delayed changes nothing', () => {
    const { policy } = policyOf(6250);
    const before = policy.cost('planes+zstd', 50);
    policy.encoded('planes+zstd', { ...encodedPart(SPEEDS['planes+zstd']), encodeMs: 900, encodeCpuMs: 900 });
    policy.decoded('planes+zstd', RAW, 900);
    expect(policy.cost('planes+zstd', 50)).toBeCloseTo(before as number, 6);
  });

  test('knows nothing at first: tries every codec, some parts each, before it settles', () => {
    const { policy, link } = policyOf(undefined, {}, 'unknown');
    expect(policy.decision(50)).toEqual({ codec: 'none', reason: 'nothing was measured on this link yet' });
    link.bandwidth = 6250;
    const seen = Array.from({ length: 40 }, () => {
      const codec = policy.next(50);
      policy.encoded(codec, encodedPart(SPEEDS[codec]));
      return codec;
    });
    expect(seen.slice(0, 3)).toEqual([...KV_CODECS]);
    expect(seen.filter((codec) => codec === 'none')).toHaveLength(3);
    expect(seen.filter((codec) => codec === 'zstd')).toHaveLength(3);
    expect(new Set(seen.slice(-10))).toEqual(new Set(['planes+zstd']));
  });

  test('tries another codec now and then, each in turn', () => {
    const { policy } = policyOf(1_250_000, { exploreEvery: 10 });
    const seen = Array.from({ length: 100 }, () => policy.next(50));
    expect(seen.filter((codec) => codec !== 'none')).toHaveLength(10);
    expect(new Set(seen)).toEqual(new Set(KV_CODECS));
  });

  test('a fixed codec stays, unless the receiver does not take it', () => {
    const { policy: fixed } = policyOf(1e6, { fixed: 'zstd' });
    expect(new Set(Array.from({ length: 200 }, () => fixed.next(9)))).toEqual(new Set(['zstd']));
    const { policy: refused } = policyOf(1e6, { accepted: ['none'], fixed: 'zstd' });
    expect(refused.next(9)).toBe('none');
    expect(refused.decision(9).reason).toContain('does not take zstd');
  });

  test('never leaves what the receiver accepts', () => {
    const { policy } = policyOf(1000, { accepted: ['none', 'zstd'], exploreEvery: 2 });
    expect(Array.from({ length: 50 }, () => policy.next(9))).not.toContain('planes+zstd');
    expect(policy.decision(9).codec).toBe('zstd');
  });
});
