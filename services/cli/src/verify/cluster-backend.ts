import { createChannelPool } from '@causeway/rpc';
import { type AttemptGeneration, type AttemptResult, runAttempt, startCluster } from '@causeway/testkit';
import type { VerifyBackend } from './backend.ts';

export interface ClusterBackendOptions {
  modelPath: string;
  modelName: string;
  /** Environment of both workers. */
  workerEnv: Readonly<Record<string, string>>;
}

/** Tokens prefilled before the rest of a prefix is replayed as decode steps over the transferred KV. */
const PREFILL_SHARE = 0.5;

/** A prefill and a decode process with NATS between them, started for the purpose. */
export async function clusterBackend(options: ClusterBackendOptions): Promise<VerifyBackend> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(
    await startCluster({ model: options.modelPath, modelName: options.modelName, workerEnv: options.workerEnv }),
  );
  const channels = stack.use(createChannelPool());
  const attempt = async (generation: AttemptGeneration): Promise<AttemptResult> =>
    runAttempt({
      channels,
      model: options.modelName,
      prefill: cluster.worker('prefill-1').address,
      decode: cluster.worker('decode-1').address,
      generation: { ...generation, returnLogits: true },
    });
  const owned = stack.move();
  return {
    name: 'prefill -> NATS -> decode',
    greedy: async (prompt, maxTokens, ignoreEos) => {
      const { tokens } = await attempt({ promptIds: prompt, maxTokens, ignoreEos });
      return tokens.map((token) => ({ id: token.id, logits: toRow(token.logits) }));
    },
    rows: async (ids, lengths, onRow) => {
      for (const length of lengths) {
        const prefilled = Math.max(1, Math.floor(length * PREFILL_SHARE));
        const { tokens } = await attempt({
          promptIds: ids.slice(0, prefilled),
          replayIds: ids.slice(prefilled, length),
          maxTokens: 1,
          ignoreEos: true,
        });
        if (tokens[0] !== undefined) onRow(length, toRow(tokens[0].logits));
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** f32 little-endian bytes as numbers; copied, since a message's bytes are a part of its frame and may not be aligned. */
function toRow(bytes: Uint8Array): Float32Array {
  return new Float32Array(new Uint8Array(bytes).buffer);
}
