/** Expert shards and engines in one process, over a real Redis and real gRPC, for tests. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ShardNode, type ShardNodeOptions } from '@causeway/experts';
import { ExpertView, type Placement } from '@causeway/experts/placing';
import { openCheckpoint } from '@causeway/model-files';
import { expertShape } from '@causeway/models';
import { Runtime } from '@causeway/ort';
import { connectRedis } from '@causeway/registry';
import { eventually, type RedisServer } from '@causeway/testkit';
import { Registry } from 'prom-client';
import type { WorkerConfig } from '../config.ts';
import { loadEngine, type LoadedEngine } from '../load-engine.ts';
import { expertConnector } from '../remote-experts.ts';

const ROOT = new URL('../../../../', import.meta.url);
export const modelFolder = (name: string): string =>
  fileURLToPath(new URL(name === 'tiny-moe' ? 'models/tiny-moe' : `../shared/goldens/${name}`, ROOT));
export const absent = (name: string): boolean => !existsSync(modelFolder(name));

const quiet = { info: () => undefined, debug: () => undefined, warn: () => undefined, error: () => undefined };

/** Which experts each shard has, the same in every layer. */
export type Split = readonly (readonly number[])[];

export interface ExpertClusterOptions {
  redis: RedisServer;
  folder: string;
  split: Split;
  /** Default `exact`. */
  precision?: WorkerConfig['precision'];
  engine?: Partial<Pick<WorkerConfig, 'expertMode' | 'expertRows' | 'expertWaitMs'>>;
  node?: (shard: number) => Partial<ShardNodeOptions>;
}

export interface ExpertCluster extends AsyncDisposable {
  loaded: LoadedEngine;
  nodes: ShardNode[];
  view: ExpertView;
  /** Puts a split in force, as a rebalance does, and waits until shards and worker have followed. */
  turn(split: Split): Promise<void>;
}

const RECIPE = {
  chip: 'cpu',
  threads: 2,
  kvBudgetBytes: 64 << 20,
  maxContext: 512,
  chunkTokens: 64,
} as const;

/** An engine with its experts in process. */
export function localEngine(folder: string, precision: WorkerConfig['precision'] = 'exact'): Promise<LoadedEngine> {
  return loadEngine({ ...RECIPE, precision, modelPath: folder });
}

const onCrash = (error: unknown): void => {
  throw error;
};

/** A shard on a port of its own, which logs nothing and throws when it crashes. */
export function startTestShard(
  o: Pick<ShardNodeOptions, 'id' | 'model' | 'precision' | 'runtime' | 'checkpoint' | 'redis'> & Partial<ShardNodeOptions>,
): Promise<ShardNode> {
  return ShardNode.start({
    budgetBytes: 1 << 30,
    leaseMs: 2000,
    host: '127.0.0.1',
    port: 0,
    advertise: (port) => `127.0.0.1:${port}`,
    observability: '127.0.0.1:1',
    log: quiet,
    onCrash,
    ...o,
  });
}

/** Shards with the split in force and an engine that uses them. The runtime is the process's. */
export async function startExperts(o: ExpertClusterOptions): Promise<ExpertCluster> {
  await using stack = new AsyncDisposableStack();
  const { precision = 'exact' } = o;
  const checkpoint = stack.use(await openCheckpoint(o.folder));
  const shape = expertShape(checkpoint);
  const runtime = stack.use(Runtime.create({ threads: 2 }));
  const redis = stack.use(await connectRedis({ url: o.redis.url, deadlineMs: 5000 }));
  // Each cluster has its own placement.
  const model = `test-${Math.random().toString(36).slice(2)}`;
  const nodes: ShardNode[] = [];
  for (const shard of o.split.keys()) {
    nodes.push(
      stack.use(
        await startTestShard({
          id: `${model}-shard-${shard}`,
          model,
          precision,
          runtime,
          checkpoint,
          redis,
          ...o.node?.(shard),
        }),
      ),
    );
  }
  const view = stack.use(new ExpertView({ redis, model, onCrash, pollMs: 20 }));
  await view.loaded;
  const put = async (split: Split): Promise<void> => {
    const { current, next } = await view.store.epochs();
    const homes = Array.from({ length: shape.experts }, (_, expert) =>
      split.flatMap((experts, shard) => (experts.includes(expert) ? [shard] : [])),
    );
    const placement: Placement = {
      version: 1,
      epoch: current + 1,
      model,
      fingerprint: nodes[0]?.fingerprint ?? '',
      shards: nodes.map(({ record }) => record.id),
      layers: Object.fromEntries(shape.layers.map((layer) => [layer, homes])),
    };
    if (!(await view.store.propose(placement, { current, next }))) throw new Error('somebody else changed the placement');
    await eventually(() => nodes.every(({ record }) => record.epochs.includes(placement.epoch)), { what: 'shards to load' });
    await view.store.turn(placement.epoch);
  };
  await put(o.split);
  const config = {
    precision,
    workerId: 'test-worker',
    expertMode: 'default',
    expertRows: 'f32',
    expertWaitMs: 2000,
    ...o.engine,
  } as WorkerConfig;
  const ctx = { crash: onCrash } as never;
  const connectExperts = expertConnector({ config, redis, registry: new Registry(), log: quiet as never, ctx });
  const loaded = stack.use(await loadEngine({ ...RECIPE, precision, modelPath: o.folder, modelName: model, connectExperts }));
  await loaded.experts?.ready(10_000, new AbortController().signal);
  const owned = stack.move();
  return {
    loaded,
    nodes,
    view,
    turn: async (split) => {
      await put(split);
      const { current } = await view.store.epochs();
      await eventually(() => loaded.experts?.links.placement?.epoch === current, { what: 'the worker to follow' });
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Logits of every position of `ids`, f32 [ids, vocabulary]. */
export async function logitsOf({ engine, info }: LoadedEngine, ids: readonly number[], chunk = 64): Promise<Float32Array> {
  const all = new Float32Array(ids.length * info.vocabSize);
  await engine.logits(Uint32Array.from(ids), (start, logits) => all.set(logits, start * info.vocabSize), { chunk });
  return all;
}
