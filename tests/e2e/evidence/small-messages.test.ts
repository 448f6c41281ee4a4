/** A NATS server with small messages carries a long prompt in many frames. */
import { expect, it } from 'vitest';
import { tapFrames } from './frame-tap.ts';
import { chosen, firstDifference, needsSmollm2, prose, SMOLLM2, startTestCluster, withoutSmollm2 } from './harness.ts';

const MAX_PAYLOAD = 65_536;

it.skipIf(withoutSmollm2)(
  `1,500 tokens cross a server with max_payload 65,536 in at least 500 frames, and the answer is the local one ${needsSmollm2}`,
  async () => {
    await using cluster = await startTestCluster({
      model: SMOLLM2,
      nats: { maxPayload: MAX_PAYLOAD },
      workerEnv: { CAUSEWAY_KV_CODEC: 'none' },
    });
    await using tap = await tapFrames(cluster.nats.url);
    const generation = { promptIds: await prose(1500), maxTokens: 16, ignoreEos: true, returnLogits: true };
    const remote = await cluster.attempt(generation);
    const { frames, transferMs } = remote.sent!.stats!;
    expect(frames).toBeGreaterThanOrEqual(500);
    await tap.flush();
    expect(new Set(tap.frames.map((frame) => `${frame.object}/${frame.part}`)).size).toBeGreaterThanOrEqual(500);
    expect(tap.frames).toHaveLength(frames);
    expect(Math.max(...tap.frames.map((frame) => frame.bytes))).toBeLessThanOrEqual(MAX_PAYLOAD);
    expect((await cluster.nats.varz()).max_payload).toBe(MAX_PAYLOAD);

    const local = await cluster.attempt(generation, { local: true });
    expect(firstDifference(chosen(remote), chosen(local))).toBeUndefined();
    console.log(`1500 tokens: ${frames} frames, ${transferMs.toFixed(0)} ms from first frame to commit`);
  },
);
