/** A whole shard over an open checkpoint: experts, line, gRPC, registration, placement. */
import { randomUUID } from 'node:crypto';
import { sleep } from '@causeway/lifecycle';
import type { Checkpoint } from '@causeway/model-files';
import { type ExpertShape, expertShape, type Precision } from '@causeway/models';
import type { Runtime } from '@causeway/ort';
import type { RedisConnection, RegistryLogger } from '@causeway/registry';
import { createRpcServer, type RpcLogger, rpcService } from '@causeway/rpc';
import { expertFingerprint } from '../fingerprint.ts';
import { placedByOthers, PlacementController } from '../placement/controller.ts';
import { ExpertView } from '../placement/expert-view.ts';
import type { ShardRecord } from '../placement/shard-record.ts';
import { ShardRegistration } from '../placement/shard-registration.ts';
import { MAX_REQUEST_BYTES } from '../wire/frame.ts';
import { ExpertsBytesDefinition } from '../wire/service.ts';
import { ExpertShard, type ShardHooks } from './expert-shard.ts';
import { HeldExperts } from './held-experts.ts';
import { serveDispatch } from './serve-dispatch.ts';
import { ShardAgent } from './shard-agent.ts';

export interface ShardNodeOptions {
  id: string;
  /** Default: a new one. */
  incarnation?: string;
  model: string;
  precision: Precision;
  budgetBytes: number;
  leaseMs: number;
  /** Runtime, checkpoint and redis stay the caller's. */
  runtime: Runtime;
  checkpoint: Checkpoint;
  redis: RedisConnection;
  host: string;
  /** 0: any free one. */
  port: number;
  /** `host:port` that others reach the gRPC port by. */
  advertise: (port: number) => string;
  observability: string;
  /** Proves that this address leads here, before anybody is told of it; throws when it doesn't. */
  checkAddress?: (port: number) => Promise<void>;
  /** How placements are made; left out: this shard makes none. */
  placing?: { minCopies: number; hotCopies: number; expectedShards: number; firstWaitMs: number };
  hooks?: ShardHooks;
  log: RegistryLogger & RpcLogger;
  onCrash: (error: unknown) => void;
}

/** Workers' streams never end by themselves; after the shard left the placement they get so long to notice. */
const STREAM_MS = 1000;

export class ShardNode implements AsyncDisposable {
  readonly shape: ExpertShape;
  readonly shard: ExpertShard;
  readonly held: HeldExperts;
  readonly view: ExpertView;
  readonly fingerprint: string;
  readonly #o: ShardNodeOptions;
  readonly #incarnation: string;
  readonly #agent: ShardAgent;
  readonly #server: ReturnType<typeof createRpcServer>;
  readonly #stack = new AsyncDisposableStack();
  #registration: ShardRegistration | undefined;
  #port = 0;
  #draining = false;

  /** Serves and is registered when the promise resolves; experts are loaded as placements say. */
  static async start(o: ShardNodeOptions): Promise<ShardNode> {
    const node = new ShardNode(o);
    try {
      await node.#start();
    } catch (error) {
      await node[Symbol.asyncDispose]();
      throw error;
    }
    return node;
  }

  private constructor(o: ShardNodeOptions) {
    const { id, model, precision, budgetBytes, runtime, checkpoint, redis, log, onCrash } = o;
    this.#o = o;
    this.#incarnation = o.incarnation ?? randomUUID();
    this.shape = expertShape(checkpoint);
    this.fingerprint = expertFingerprint(checkpoint, this.shape, precision);
    const { shape, fingerprint } = this;
    this.held = this.#stack.use(new HeldExperts({ runtime, checkpoint, shape, precision, budgetBytes }));
    this.shard = this.#stack.use(
      new ExpertShard({ runtime, shape, held: this.held, ...(o.hooks === undefined ? {} : { hooks: o.hooks }) }),
    );
    this.view = this.#stack.use(new ExpertView({ redis, model, log, onCrash }));
    const { view, held } = this;
    const changed = (): void => this.#registration?.touch();
    this.#agent = this.#stack.use(new ShardAgent({ id, fingerprint, view, held, log, changed, onCrash }));
    const deps = {
      shard: this.shard,
      id,
      incarnation: this.#incarnation,
      fingerprint,
      placement: () => (view.snapshot.placement === undefined ? '' : JSON.stringify(view.snapshot.placement)),
      uses: (epoch: number) => this.#agent.uses(epoch),
    };
    const service = rpcService(ExpertsBytesDefinition, {
      dispatch: (requests, context) => serveDispatch(deps, requests, context.signal),
    });
    this.#server = this.#stack.use(
      createRpcServer({ host: o.host, port: o.port, services: [service], maxRequestBytes: MAX_REQUEST_BYTES, log }),
    );
  }

  /** What keeps it from serving its part of the placement. */
  get missing(): readonly string[] {
    if (this.#agent.ready) return [];
    const { placement } = this.view.snapshot;
    if (placedByOthers(this.view.snapshot, this.fingerprint))
      return [
        'the experts in force are of another model or precision: give all shards and workers one checkpoint and CAUSEWAY_PRECISION',
      ];
    if (placement !== undefined && !placement.shards.includes(this.#o.id)) return [];
    return [this.#agent.refused?.reason ?? 'the experts of the placement are not loaded'];
  }

  /** The record as it is now. */
  get record(): ShardRecord {
    const { id, model, budgetBytes, leaseMs } = this.#o;
    return {
      version: 1,
      id,
      incarnation: this.#incarnation,
      model,
      fingerprint: this.fingerprint,
      address: this.#o.advertise(this.#port),
      observability: this.#o.observability,
      capacity: this.held.capacity,
      held: this.held.experts,
      usedBytes: this.held.usedBytes,
      budgetBytes,
      draining: this.#draining,
      placing: {
        copies: this.#o.placing?.minCopies ?? 1,
        hotCopies: this.#o.placing?.hotCopies ?? 0,
        groups: Math.max(1, this.shape.groups),
      },
      epochs: [...this.held.epochs],
      ...(this.#agent.refused === undefined ? {} : { refused: this.#agent.refused }),
      queued: this.shard.stats.queued,
      pairs: this.shard.stats.pairs,
      leaseMs,
    };
  }

  /** Lets others take its experts over, as far as they can, then ends the streams. */
  async drain(force: AbortSignal): Promise<void> {
    this.#draining = true;
    this.#registration?.touch();
    await this.#leave(force);
    await this.#server.drain(AbortSignal.any([force, AbortSignal.timeout(STREAM_MS)]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(): Promise<void> {
    const { redis, model, placing, log, onCrash } = this.#o;
    this.#port = await this.#server.listen();
    await this.#o.checkAddress?.(this.#port);
    this.#registration = this.#stack.use(new ShardRegistration({ redis, read: () => this.record, log, onCrash }));
    await this.#registration.registered;
    const { view, shape, fingerprint } = this;
    if (placing !== undefined) {
      this.#stack.use(new PlacementController({ redis, view, model, fingerprint, shape, ...placing, log, onCrash }));
    }
    this.#server.setServing(true);
  }

  /** Waits until the placement does without this shard, unless there is no other. */
  async #leave(force: AbortSignal): Promise<void> {
    const { id } = this.#o;
    while (!force.aborted) {
      const { placement, shards } = this.view.snapshot;
      const others = [...shards.values()].some((shard) => shard.id !== id && !shard.draining);
      if (!others || !this.view.connected || placement?.shards.includes(id) !== true) return;
      await sleep(50, force).catch(() => undefined);
    }
  }
}
