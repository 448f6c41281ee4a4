/** Expert shards as processes of their own and a worker's client of them, without an engine: what is asked of experts is the bench's. */
import { join } from 'node:path';
import { ExpertClient, expertFingerprint, type LayerTimes } from '@causeway/experts';
import { ExpertView } from '@causeway/experts/placing';
import { openCheckpoint } from '@causeway/model-files';
import { type ExpertShape, expertShape } from '@causeway/models';
import { NativeBuffer, Runtime, Tensor } from '@causeway/ort';
import { connectRedis } from '@causeway/registry';
import { createChannelPool } from '@causeway/rpc';
import { startProcess, startRedis } from '@causeway/testkit';

const SHARD = join(import.meta.dirname, '../../../services/expert/src/main.ts');
const quiet = { info: () => undefined, debug: () => undefined, warn: console.warn, error: console.error };

/** Where one layer's time went, and how often which shard was asked. */
export interface Asked extends LayerTimes {
  totalMs: number;
  calls: ReadonlyMap<string, number>;
}

export interface ExpertShards extends AsyncDisposable {
  shape: ExpertShape;
  client: ExpertClient;
  view: ExpertView;
  /** Processes by the shard's id. */
  pids: ReadonlyMap<string, number>;
  /** Asks the experts of one layer for random rows; `choose` gives each row's experts, all different. Gives where the time went. */
  ask(layer: number, tokens: number, choose: (token: number) => readonly number[]): Promise<Asked>;
}

/** Starts so many shards and waits until a client reaches every expert. */
export async function startShards(o: {
  model: string;
  shards: number;
  env?: Record<string, string>;
  /** Of one shard, by its id. */
  envOf?: Readonly<Record<string, Record<string, string>>>;
}): Promise<ExpertShards> {
  await using starting = new AsyncDisposableStack();
  const server = starting.use(await startRedis());
  const processes = Array.from({ length: o.shards }, (_, i) =>
    starting.use(
      startProcess({
        script: SHARD,
        env: {
          CAUSEWAY_REDIS_URL: server.url,
          CAUSEWAY_MODEL_PATH: o.model,
          CAUSEWAY_MODEL_NAME: 'bench',
          CAUSEWAY_WORKER_ID: `expert-${i + 1}`,
          CAUSEWAY_EXPERT_SHARDS: String(o.shards),
          CAUSEWAY_PRECISION: 'exact',
          UV_THREADPOOL_SIZE: '8',
          ...o.env,
          ...o.envOf?.[`expert-${i + 1}`],
        },
      }),
    ),
  );
  await Promise.all(processes.map((process) => process.waitForLog((line) => line['msg'] === 'ready', 120_000)));
  const checkpoint = starting.use(await openCheckpoint(o.model));
  const shape = expertShape(checkpoint);
  const runtime = starting.use(Runtime.create({ threads: 1 }));
  const redis = starting.use(await connectRedis({ url: server.url, deadlineMs: 5000 }));
  const onCrash = (error: unknown): void => {
    throw error;
  };
  const view = new ExpertView({ redis, model: 'bench', onCrash });
  let times: LayerTimes | undefined;
  const client = starting.use(
    await ExpertClient.create({
      runtime,
      shape,
      model: 'bench',
      fingerprint: expertFingerprint(checkpoint, shape, 'exact'),
      workerId: 'bench',
      mode: 'default',
      rowType: 'f32',
      waitMs: 5000,
      redis,
      view,
      channels: createChannelPool(),
      log: quiet,
      onLayer: (of) => (times = of),
      onCrash,
    }),
  );
  await client.ready(120_000, new AbortController().signal);
  const owned = starting.move();
  return {
    shape,
    client,
    view,
    pids: new Map(processes.map(({ pid }, i) => [`expert-${i + 1}`, pid])),
    ask: async (layer, tokens, choose) => {
      using memory = new DisposableStack();
      const run = randomRun(memory, shape, tokens, choose);
      const start = performance.now();
      const { calls } = await client.start({ layer, batch: 1, ...run, signal: undefined }).done;
      const totalMs = performance.now() - start;
      if (times === undefined) throw new Error('the dispatch told no times');
      return { ...times, totalMs, calls: calls[0] ?? new Map<string, number>() };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Random rows, the experts chosen for them with equal weights, and room for their sums. */
function randomRun(
  memory: DisposableStack,
  { hidden, expertsPerToken }: ExpertShape,
  tokens: number,
  choose: (token: number) => readonly number[],
): { rows: Tensor; ids: Tensor; weights: Tensor; output: Tensor } {
  const tensor = (type: 'f32' | 'i64', columns: number): Tensor => {
    const bytes = tokens * columns * (type === 'f32' ? 4 : 8);
    return memory.use(Tensor.of(memory.use(NativeBuffer.allocate(bytes)), 0, type, [tokens, columns]));
  };
  const floats = ({ buffer, byteLength }: Tensor): Float32Array => {
    const bytes = buffer.bytes(0, byteLength);
    return new Float32Array(bytes.buffer, bytes.byteOffset, byteLength / 4);
  };
  const [rows, weights, output] = [tensor('f32', hidden), tensor('f32', expertsPerToken), tensor('f32', hidden)];
  const ids = tensor('i64', expertsPerToken);
  const numbers = floats(rows);
  for (let i = 0; i < numbers.length; i++) numbers[i] = Math.random() - 0.5;
  floats(weights).fill(1 / expertsPerToken);
  const bytes = ids.buffer.bytes(0, ids.byteLength);
  const list = new BigInt64Array(bytes.buffer, bytes.byteOffset, tokens * expertsPerToken);
  for (let token = 0; token < tokens; token++)
    for (const [i, expert] of choose(token).entries()) list[token * expertsPerToken + i] = BigInt(expert);
  return { rows, ids, weights, output };
}
