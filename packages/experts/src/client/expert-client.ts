/** Routed experts for an engine, computed by the shards of a placement. */
import type { ExpertAnswers, ExpertCalls, ExpertRun, RemoteExperts, StartedExpertRun } from '@causeway/engine';
import { fail } from '@causeway/errors';
import { abortable, deadlineSignal, sleep, TaskGroup } from '@causeway/lifecycle';
import type { ExpertShape } from '@causeway/models';
import type { Runtime, Tensor } from '@causeway/ort';
import type { RedisConnection, RegistryLogger } from '@causeway/registry';
import type { ChannelPool } from '@causeway/rpc';
import { bytesOf, floats, int64s, NativeArea } from '../native-area.ts';
import type { ExpertView } from '../placement/expert-view.ts';
import { writeLoads } from '../placement/load-report.ts';
import { RowCast } from '../row-cast.ts';
import { type AnswerMode, ROW_TYPE_BYTES, type RowType } from '../wire/frame.ts';
import { AnswerSum } from './answer-sum.ts';
import { type AnswerPart, type DispatchCounters, Dispatcher } from './dispatch.ts';
import { HedgeBudget } from './latency.ts';
import { LoadCounts } from './load-counts.ts';
import { tokensByExpert } from './routed-tokens.ts';
import { ShardLinks } from './shard-links.ts';

/** Milliseconds of one layer's dispatch. */
export interface LayerTimes {
  layer: number;
  tokens: number;
  pairs: number;
  /** Rows and choices read, frames written. */
  packMs: number;
  /** From the last frame sent to the last answer; of the slowest frame: in the shard's line, in its run, and the rest, on the way. */
  waitMs: number;
  queueMs: number;
  computeMs: number;
  networkMs: number;
  combineMs: number;
}

export interface ExpertClientOptions {
  runtime: Runtime;
  shape: ExpertShape;
  model: string;
  fingerprint: string;
  workerId: string;
  /** `exact`: an answer per token and expert, added here in ascending order of experts, as in process. */
  mode: 'default' | 'exact';
  rowType: RowType;
  /** How long a token waits for a shard that has its expert, in milliseconds. */
  waitMs: number;
  redis: RedisConnection;
  /** Become the client's own once it is made. */
  view: ExpertView;
  channels: ChannelPool;
  log: RegistryLogger;
  onLayer?: ((times: LayerTimes) => void) | undefined;
  /** Tokens that chose each expert of a layer. */
  onTokens?: ((layer: number, expert: number, tokens: number) => void) | undefined;
  random?: () => number;
  onCrash: (error: unknown) => void;
}

const REPORT_MS = 1000;

export class ExpertClient implements RemoteExperts, AsyncDisposable {
  readonly counters: DispatchCounters = {
    frames: 0,
    hedgesSent: 0,
    hedgesWon: 0,
    retries: 0,
    staleFrames: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  readonly links: ShardLinks;
  readonly loads: LoadCounts;
  readonly #o: ExpertClientOptions;
  readonly #dispatcher: Dispatcher;
  readonly #sum: AnswerSum;
  readonly #cast: RowCast;
  readonly #tasks: TaskGroup;
  readonly #narrowed = new NativeArea();

  /** Makes the graph that sums answers; connects as the placement says. */
  static async create(o: ExpertClientOptions): Promise<ExpertClient> {
    const answers = o.mode === 'exact' ? 'pairs' : 'sums';
    return new ExpertClient(o, answers, await AnswerSum.create({ ...o, answers }));
  }

  private constructor(o: ExpertClientOptions, answers: AnswerMode, sum: AnswerSum) {
    const { fingerprint, workerId, rowType, view, channels, log, random = Math.random } = o;
    this.#o = o;
    this.#sum = sum;
    this.loads = new LoadCounts(o.shape);
    this.links = new ShardLinks({
      view,
      channels,
      hello: { fingerprint, workerId, rowType, answers },
      log,
      random,
    });
    this.#dispatcher = new Dispatcher({
      links: this.links,
      budget: new HedgeBudget(),
      counters: this.counters,
      answers,
      waitMs: o.waitMs,
    });
    this.#cast = new RowCast(o.runtime);
    this.#tasks = new TaskGroup({ onCrash: o.onCrash });
    void this.#tasks.spawn('expert load report', (signal) => this.#report(signal));
  }

  /**
   * Waits until every expert has a connected shard.
   * @throws ServiceError `dependency_unavailable` saying what is missing when `deadlineMs` passes.
   */
  async ready(deadlineMs: number, signal: AbortSignal): Promise<void> {
    using deadline = deadlineSignal(deadlineMs, signal);
    for (;;) {
      const missing = this.#missing();
      if (missing === undefined) return;
      try {
        await Promise.race([abortable(this.links.changed(), deadline.signal), sleep(200, deadline.signal)]);
      } catch (error) {
        if (signal.aborted) throw error;
        fail('unavailable', 'dependency_unavailable', `the experts of ${this.#o.model} are not there: ${missing}`);
      }
    }
  }

  start(run: ExpertRun): StartedExpertRun {
    const sent = Promise.withResolvers<void>();
    const done = this.#run(run, sent.resolve);
    done.then(undefined, sent.reject);
    // The executor waits for one of them; a failure is heard there.
    sent.promise.catch(() => undefined);
    return { sent: sent.promise, done };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    this.links[Symbol.dispose]();
    await this.#o.view[Symbol.asyncDispose]();
    this.#o.channels[Symbol.dispose]();
    await this.#cast[Symbol.asyncDispose]();
    await this.#sum[Symbol.asyncDispose]();
    this.#narrowed[Symbol.dispose]();
  }

  async #run(run: ExpertRun, sent: () => void): Promise<ExpertAnswers> {
    const { shape, rowType } = this.#o;
    const start = performance.now();
    const tokens = run.rows.shape[0] ?? 0;
    const routed = tokensByExpert(
      int64s(bytesOf(run.ids)),
      floats(bytesOf(run.weights)),
      run.ids.shape[1] ?? shape.expertsPerToken,
      shape.experts,
    );
    for (const one of routed) {
      this.loads.add(run.layer, one.expert, one.tokens.length);
      this.#o.onTokens?.(run.layer, one.expert, one.tokens.length);
    }
    const rows = rowType === 'f32' ? bytesOf(run.rows) : await this.#narrow(run.rows, rowType);
    const rowBytes = shape.hidden * ROW_TYPE_BYTES[rowType];
    const answers = this.#dispatcher.dispatch({ layer: run.layer, rows, rowBytes, signal: run.signal }, routed);
    const packed = performance.now();
    // Frames leave at the end of this turn of the event loop: what the worker computes meanwhile begins after that.
    setImmediate(sent);
    const parts = await answers;
    const arrived = performance.now();
    await this.#sum.run(run.rows, parts, run.output);
    const slowest = parts.reduce((a, b) => (b.answer.totalMs > a.answer.totalMs ? b : a));
    const { queueMs, computeMs, totalMs } = slowest.answer;
    const networkMs = Math.max(0, totalMs - queueMs - computeMs);
    const endedAt = performance.now();
    this.#o.onLayer?.({
      layer: run.layer,
      tokens,
      pairs: routed.reduce((sum, one) => sum + one.tokens.length, 0),
      packMs: packed - start,
      waitMs: arrived - packed,
      queueMs,
      computeMs,
      networkMs,
      combineMs: endedAt - arrived,
    });
    const shards = [...new Set(parts.map(({ shard }) => shard))].sort();
    return {
      calls: callsBySequence(parts, run.batch, tokens),
      layer: { layer: run.layer, startedAt: start, endedAt, tokens, shards, networkMs, queueMs, computeMs },
    };
  }

  async #narrow(rows: Tensor, rowType: RowType): Promise<Uint8Array> {
    using to = this.#narrowed.tensor(rowType, rows.shape);
    await this.#cast.run(rows, to);
    return this.#narrowed.bytes(to.byteLength);
  }

  #missing(): string | undefined {
    const { placement } = this.links;
    if (placement === undefined) {
      const { shards } = this.#o.view.snapshot;
      return shards.size === 0
        ? 'no expert shard is registered'
        : `${shards.size} shards are registered and none has a placement yet`;
    }
    for (const layer of this.#o.shape.layers) {
      for (let expert = 0; expert < this.#o.shape.experts; expert++) {
        if (this.links.homes(layer, expert, new Set()).length === 0) {
          return `no connected shard has expert ${expert} of layer ${layer} (placement ${placement.epoch})`;
        }
      }
    }
    return undefined;
  }

  async #report(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(REPORT_MS, signal).catch(() => undefined);
      if (signal.aborted || !this.loads.takeChanged()) continue;
      // Only the planner misses a report; the next one has the same counts.
      await writeLoads(this.#o.redis, this.#o.model, this.#o.workerId, this.loads.recent).catch(() => undefined);
    }
  }
}

/** Calls by shard, of each of `batch` sequences that have equally many tokens. */
function callsBySequence(parts: readonly AnswerPart[], batch: number, tokens: number): readonly ExpertCalls[] {
  const perSequence = tokens / batch;
  const calls = Array.from({ length: batch }, () => new Map<string, number>());
  for (const { content, shard } of parts) {
    const counts = new Uint32Array(batch);
    for (const one of content.experts) {
      for (const token of one.tokens) {
        const sequence = Math.floor(token / perSequence);
        counts[sequence] = (counts[sequence] ?? 0) + 1;
      }
    }
    for (const [sequence, count] of counts.entries()) {
      if (count > 0) calls[sequence]?.set(shard, (calls[sequence].get(shard) ?? 0) + count);
    }
  }
  return calls;
}
