/**
 * A shard's line: frames wait by layer, and one run serves all that wait for the same layer. When several workers are about, a run
 * waits one turn of the event loop for the others; while a run computes, what comes in gathers for the next.
 */
import { fail, ServiceError } from '@causeway/errors';
import type { ExpertShape } from '@causeway/models';
import type { Runtime } from '@causeway/ort';
import { ExpertBatch } from './batch.ts';
import type { HeldExperts, HeldGroup } from './held-experts.ts';
import type { ShardFrame } from './shard-frame.ts';

/** What becomes of a frame. */
export interface FrameAnswer {
  /** Writes the answer into memory of `bytes` bytes; to be called at once. */
  write: (body: Uint8Array) => void;
  bytes: number;
  queueMs: number;
  computeMs: number;
  batchPairs: number;
}

export interface FrameWaiter {
  /** Whoever sent it; frames of several make a run worth waiting for. */
  source: object;
  frame: ShardFrame;
  cancelled: boolean;
  answered(answer: FrameAnswer): void;
  failed(error: ServiceError): void;
}

interface Waiting extends FrameWaiter {
  at: number;
}

export interface ShardStats {
  /** Frames in line. */
  queued: number;
  frames: number;
  runs: number;
  pairs: number;
  staleFrames: number;
  cancelledFrames: number;
  bytesIn: number;
  bytesOut: number;
}

export interface ShardHooks {
  onRun?(run: { layer: number; frames: number; pairs: number; queueMs: number; computeMs: number }): void;
  /** Called before a run: what delays it delays the shard. */
  beforeRun?(): Promise<void>;
}

/** Bytes of frames that may wait; more are refused. */
const MAX_QUEUED_BYTES = 256 * 1024 * 1024;
/** Bytes of rows of one run; a single frame may have more. */
const MAX_RUN_BYTES = 32 * 1024 * 1024;
/** A sender counts as about for so long after its last frame. */
const ABOUT_MS = 50;

export class ExpertShard implements AsyncDisposable {
  readonly shape: ExpertShape;
  readonly stats: ShardStats = {
    queued: 0,
    frames: 0,
    runs: 0,
    pairs: 0,
    staleFrames: 0,
    cancelledFrames: 0,
    bytesIn: 0,
    bytesOut: 0,
  };
  readonly #held: HeldExperts;
  readonly #batch: ExpertBatch;
  readonly #hooks: ShardHooks;
  readonly #lines = new Map<number, Waiting[]>();
  readonly #lastSeen = new Map<object, number>();
  #queuedBytes = 0;
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(o: { runtime: Runtime; shape: ExpertShape; held: HeldExperts; hooks?: ShardHooks }) {
    this.shape = o.shape;
    this.#held = o.held;
    this.#hooks = o.hooks ?? {};
    this.#batch = new ExpertBatch(o.runtime, o.shape);
  }

  /**
   * Takes a frame in line.
   * @throws ServiceError `stale_placement` when its experts aren't all here, `queue_full`, `draining`.
   */
  submit(waiter: FrameWaiter): void {
    const { frame } = waiter;
    if (this.#closed) fail('unavailable', 'draining', 'this shard is shutting down', { retry: 'other' });
    if (this.#groupOf(frame) === undefined) {
      this.stats.staleFrames++;
      fail('failed_precondition', 'stale_placement', `not all of its experts of layer ${frame.layer} are here`, {
        retry: 'other',
      });
    }
    const bytes = frame.rows.byteLength;
    if (this.#queuedBytes > 0 && this.#queuedBytes + bytes > MAX_QUEUED_BYTES) {
      const message = `${this.stats.queued} frames of ${this.#queuedBytes} bytes wait already`;
      fail('resource_exhausted', 'queue_full', message, { retry: 'other' });
    }
    this.#queuedBytes += bytes;
    this.stats.bytesIn += bytes;
    this.stats.queued++;
    this.stats.frames++;
    const now = performance.now();
    this.#lastSeen.set(waiter.source, now);
    const line = this.#lines.get(frame.layer) ?? [];
    this.#lines.set(frame.layer, line);
    line.push(Object.assign(waiter, { at: now }));
    this.#running ??= this.#run();
  }

  /** The sender of frames is gone: what it has in line isn't computed. */
  forget(source: object): void {
    this.#lastSeen.delete(source);
    for (const line of this.#lines.values()) for (const waiter of line) if (waiter.source === source) waiter.cancelled = true;
  }

  /** Refuses new frames, ends those in line, waits for the run under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const line of this.#lines.values()) for (const waiter of line) waiter.cancelled = true;
    await this.#running;
    await this.#batch[Symbol.asyncDispose]();
  }

  #groupOf(frame: ShardFrame): HeldGroup | undefined {
    return this.#held.find(frame.layer, frame.pairExperts);
  }

  async #run(): Promise<void> {
    // A worker's next frame of the layer, if any, is in the same reading of the socket.
    await Promise.resolve();
    while (this.#lines.size > 0) {
      if (this.#sendersAbout() > 1) await nextTurn();
      const layer = this.#oldestLayer();
      const { group, batch } = this.#take(layer);
      if (batch.length > 0 && group !== undefined) await this.#compute(layer, group, batch);
    }
    this.#running = undefined;
  }

  #sendersAbout(): number {
    const since = performance.now() - ABOUT_MS;
    let count = 0;
    for (const [source, at] of this.#lastSeen) {
      if (at >= since) count++;
      else this.#lastSeen.delete(source);
    }
    return count;
  }

  #oldestLayer(): number {
    let oldest: { layer: number; at: number } | undefined;
    for (const [layer, [first]] of this.#lines) {
      if (first !== undefined && (oldest === undefined || first.at < oldest.at)) oldest = { layer, at: first.at };
    }
    return oldest?.layer ?? fail('internal', 'internal', 'no frame is in line');
  }

  /** The next frames of a layer that one group of experts serves. */
  #take(layer: number): { group: HeldGroup | undefined; batch: Waiting[] } {
    const line = this.#lines.get(layer) ?? [];
    const batch: Waiting[] = [];
    let group: HeldGroup | undefined;
    let bytes = 0;
    while (line.length > 0) {
      const next = line[0] as Waiting;
      if (!next.cancelled) {
        const own = this.#groupOf(next.frame);
        if (batch.length > 0 && (own !== group || bytes + next.frame.rows.byteLength > MAX_RUN_BYTES)) break;
        group ??= own;
      }
      line.shift();
      this.stats.queued--;
      this.#queuedBytes -= next.frame.rows.byteLength;
      if (next.cancelled) {
        this.stats.cancelledFrames++;
        next.failed(new ServiceError('cancelled', { code: 'cancelled', reason: 'cancelled' }));
      } else if (group === undefined) {
        this.stats.staleFrames++;
        next.failed(stale(next.frame));
      } else {
        batch.push(next);
        bytes += next.frame.rows.byteLength;
      }
    }
    if (line.length === 0) this.#lines.delete(layer);
    return { group, batch };
  }

  async #compute(layer: number, group: HeldGroup, batch: readonly Waiting[]): Promise<void> {
    using _use = this.#held.use(group);
    const byFrame = new Map(batch.map((waiter) => [waiter.frame, waiter]));
    const frames = batch.map(({ frame }) => frame);
    const pairs = frames.reduce((sum, frame) => sum + frame.pairRows.length, 0);
    try {
      await this.#hooks.beforeRun?.();
      const start = performance.now();
      const queueMs = start - Math.min(...batch.map(({ at }) => at));
      const computeMs = await this.#batch.run(group, frames, (frame, write, bytes) => {
        const waiter = byFrame.get(frame);
        byFrame.delete(frame);
        this.stats.bytesOut += bytes;
        const times = { queueMs: start - (waiter?.at ?? start), computeMs: performance.now() - start };
        waiter?.answered({ write, bytes, ...times, batchPairs: pairs });
      });
      this.stats.runs++;
      this.stats.pairs += pairs;
      this.#hooks.onRun?.({ layer, frames: frames.length, pairs, queueMs, computeMs });
    } catch (error) {
      for (const waiter of byFrame.values()) waiter.failed(ServiceError.from(error));
    }
  }
}

function stale(frame: ShardFrame): ServiceError {
  return new ServiceError(`not all of its experts of layer ${frame.layer} are here any more`, {
    code: 'failed_precondition',
    reason: 'stale_placement',
    retry: 'other',
  });
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
