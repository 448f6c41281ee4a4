import { describe, expect, test } from 'vitest';
import { KV_CODECS } from './codec.ts';
import { CodecPolicy } from './codec-policy.ts';

/** Feeds what a link of `bandwidth` bytes/ms and codecs of these speeds would show. */
function observe(policy: CodecPolicy, bandwidth: number, parts = 20): void {
  for (let i = 0; i < parts; i++) {
    policy.carried(10 * bandwidth, 10);
    policy.encoded('none', 1e6, 1e6, 0.3);
    policy.encoded('zstd', 1e6, 8e5, 3);
    policy.encoded('planes+zstd', 1e6, 6.7e5, 2.5);
    policy.decoded('none', 1e6, 0.3);
    policy.decoded('zstd', 1e6, 1.2);
    policy.decoded('planes+zstd', 1e6, 1.8);
  }
}

describe('CodecPolicy', () => {
  test('sends raw where the link outruns the codecs, and says why', () => {
    const policy = new CodecPolicy({ accepted: KV_CODECS });
    observe(policy, 500_000);
    expect(policy.decision.codec).toBe('none');
    expect(policy.decision.reason).toMatch(/none [\d.]+, zstd [\d.]+, planes\+zstd [\d.]+; measured 500 MB\/s/);
  });

  test('compresses where the link is the bottleneck', () => {
    const policy = new CodecPolicy({ accepted: KV_CODECS });
    observe(policy, 20_000);
    expect(policy.decision.codec).toBe('planes+zstd');
    observe(policy, 900_000);
    expect(policy.decision.codec).toBe('none');
  });

  test('minimises encode + bytes / bandwidth + decode', () => {
    const policy = new CodecPolicy({ accepted: KV_CODECS });
    observe(policy, 20_000, 200);
    expect(policy.cost('planes+zstd')).toBeCloseTo(1.048576 * (2.5 + 6.7e5 / 20_000 + 1.8), 1);
    expect(policy.cost('none')).toBeCloseTo(1.048576 * (0.3 + 50 + 0.3), 1);
  });

  test('tries another codec now and then, each in turn', () => {
    const policy = new CodecPolicy({ accepted: KV_CODECS, exploreEvery: 10 });
    observe(policy, 500_000);
    const seen = Array.from({ length: 100 }, () => policy.next());
    expect(seen.filter((codec) => codec !== 'none')).toHaveLength(10);
    expect(new Set(seen)).toEqual(new Set(KV_CODECS));
  });

  test('a fixed codec stays, unless the receiver does not take it', () => {
    const fixed = new CodecPolicy({ accepted: KV_CODECS, fixed: 'zstd' });
    observe(fixed, 1e6);
    expect(new Set(Array.from({ length: 200 }, () => fixed.next()))).toEqual(new Set(['zstd']));
    const refused = new CodecPolicy({ accepted: ['none'], fixed: 'zstd' });
    expect(refused.next()).toBe('none');
    expect(refused.decision.reason).toContain('does not take zstd');
  });

  test('never leaves what the receiver accepts', () => {
    const policy = new CodecPolicy({ accepted: ['none', 'zstd'], exploreEvery: 2 });
    observe(policy, 1000);
    expect(Array.from({ length: 50 }, () => policy.next())).not.toContain('planes+zstd');
    expect(policy.decision.codec).toBe('zstd');
  });
});
