/**
 * Encodes and decodes parts off the event loop, in worker threads that read and write native memory in place. `none` is a copy
 * of at most a part (well under a millisecond) and is done on the calling thread: sending it elsewhere costs more.
 */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { fail, ServiceError } from '@causeway/errors';
import { endThread, type NativeBuffer } from '@causeway/ort';
import type { KvCodec } from './codec.ts';
import type { CodecRequest, CodecResponse, ConvertJob, DecodedPart, EncodedPart, MemoryRun } from './codec-messages.ts';
import { checkConvertible } from './convert-block.ts';
import type { KvDescriptor, KvWireForm } from './descriptor.ts';
import { decodeRuns, encodeRuns } from './part-job.ts';

/** Bytes that one conversion job handles, about. */
const CONVERT_BYTES = 4 << 20;

export interface CodecPoolOptions {
  /** Threads, started with the first job or by warm(); default 1, or 2 where there are four or more processors. */
  threads?: number;
}

export interface EncodeJob {
  codec: KvCodec;
  /** Bytes of a number: 1, 2 or 4. */
  elementBytes: 1 | 2 | 4;
  /** What to encode, in wire order. */
  raw: readonly MemoryRun[];
  /** Where the body goes; at least as long as the raw bytes. */
  out: MemoryRun;
}

export interface DecodeJob {
  codec: KvCodec;
  elementBytes: 1 | 2 | 4;
  /** A body in registered memory, or (codec `none` only) anywhere. */
  body: MemoryRun | Uint8Array;
  /** CRC-32C that the decoded bytes must have. */
  rawCrc: number;
  /** Where the decoded bytes go, in wire order. Written only after the check. */
  raw: readonly MemoryRun[];
}

interface Pending {
  resolve(part: EncodedPart | DecodedPart): void;
  reject(error: ServiceError): void;
}

interface Thread {
  worker: Worker;
  pending: Map<number, Pending>;
}

/** A few codec threads and the memory that they may touch. Disposing waits for running jobs, so memory may be freed after it. */
export class CodecPool implements AsyncDisposable {
  readonly #threadCount: number;
  readonly #threads: Thread[] = [];
  readonly #regions = new Map<number, NativeBuffer>();
  readonly #converters: Extract<CodecRequest, { kind: 'converter' }>[] = [];
  #lastConverter = 0;
  #lastRegion = 0;
  #lastJob = 0;
  #disposal: Promise<void> | undefined;

  constructor(options: CodecPoolOptions = {}) {
    this.#threadCount = Math.max(1, options.threads ?? (availableParallelism() >= 4 ? 2 : 1));
  }

  /** Threads that jobs are shared by. */
  get threads(): number {
    return this.#threadCount;
  }

  /** Starts the threads now instead of with the first jobs, which then don't wait for them. */
  warm(): void {
    while (this.#disposal === undefined && this.#threads.length < this.#threadCount) this.#start();
  }

  /** Lets jobs refer to `buffer` by the returned number. The buffer must outlive `unregister` and the jobs that use it. */
  register(buffer: NativeBuffer): number {
    const region = ++this.#lastRegion;
    this.#regions.set(region, buffer);
    for (const thread of this.#threads) post(thread, registration(region, buffer));
    return region;
  }

  unregister(region: number): void {
    this.#regions.delete(region);
    for (const thread of this.#threads) post(thread, { kind: 'unregister', region });
  }

  /** Encodes one part. @throws ServiceError `internal` when a thread fails */
  async encode(job: EncodeJob): Promise<EncodedPart> {
    if (job.codec === 'none') return encodeRuns('none', job.elementBytes, job.raw, job.out, (run) => this.#view(run));
    return (await this.#run({ kind: 'encode', job: ++this.#lastJob, ...job })) as EncodedPart;
  }

  /** Makes a converter between pages of `descriptor`'s storage and pages in wire order; the number names it in jobs. */
  converter(descriptor: KvDescriptor, wire: KvWireForm): number {
    checkConvertible(descriptor, wire);
    const converter = ++this.#lastConverter;
    const request = { kind: 'converter', converter, descriptor, wire } as const;
    this.#converters.push(request);
    for (const thread of this.#threads) post(thread, request);
    return converter;
  }

  /** Converts blocks in registered memory, in jobs short enough for others to come between; thread time in ms. */
  async convert(job: ConvertJob): Promise<number> {
    let ms = 0;
    const step = Math.max(1, Math.floor(CONVERT_BYTES / Math.max(job.pageBytes, job.wireBytes)));
    for (let first = 0; first < job.blocks.length; first += step) {
      const blocks = job.blocks.slice(first, first + step);
      const done = (await this.#run({ ...job, kind: 'convert', job: ++this.#lastJob, blocks })) as DecodedPart;
      ms += done.decodeMs;
    }
    return ms;
  }

  /** Decodes one part. @throws ServiceError `malformed_frame` or `checksum`; the pages are untouched then */
  async decode(job: DecodeJob): Promise<DecodedPart> {
    const { body } = job;
    if (job.codec === 'none') {
      const bytes = body instanceof Uint8Array ? body : this.#view(body);
      return decodeRuns('none', job.elementBytes, bytes, job.rawCrc, job.raw, (run) => this.#view(run));
    }
    if (body instanceof Uint8Array) fail('internal', 'internal', 'an encoded body must lie in registered memory');
    return (await this.#run({ kind: 'decode', job: ++this.#lastJob, ...job, body })) as DecodedPart;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#stop();
    return this.#disposal;
  }

  #view(run: MemoryRun): Uint8Array {
    const buffer = this.#regions.get(run.region);
    if (buffer === undefined) fail('internal', 'internal', `memory region ${run.region} is not registered`);
    return buffer.bytes(run.offset, run.length);
  }

  async #run(request: Extract<CodecRequest, { job: number }>): Promise<EncodedPart | DecodedPart> {
    if (this.#disposal !== undefined) fail('failed_precondition', 'internal', 'the codec pool is disposed');
    const thread = this.#leastBusy();
    return new Promise((resolve, reject) => {
      thread.pending.set(request.job, { resolve, reject });
      thread.worker.ref();
      post(thread, request);
    });
  }

  #leastBusy(): Thread {
    const idle = this.#threads.find((thread) => thread.pending.size === 0);
    if (idle !== undefined) return idle;
    if (this.#threads.length < this.#threadCount) return this.#start();
    return this.#threads.reduce((least, thread) => (thread.pending.size < least.pending.size ? thread : least));
  }

  #start(): Thread {
    const worker = new Worker(new URL('./codec-worker.ts', import.meta.url), { name: 'kv-codec', execArgv: [] });
    const thread: Thread = { worker, pending: new Map() };
    worker.unref();
    worker.on('message', (response: CodecResponse) => settle(thread, response));
    // An error overtakes the answers sent before it; the end does not.
    let cause: unknown;
    worker.on('error', (error) => (cause = error));
    worker.on('exit', () => this.#lose(thread, cause));
    for (const [region, buffer] of this.#regions) post(thread, registration(region, buffer));
    for (const converter of this.#converters) post(thread, converter);
    this.#threads.push(thread);
    return thread;
  }

  /** A thread that ended takes its jobs with it; the next job starts another. */
  #lose(thread: Thread, cause: unknown): void {
    const index = this.#threads.indexOf(thread);
    if (index >= 0) this.#threads.splice(index, 1);
    const error = new ServiceError('the codec thread ended before its job', {
      code: 'internal',
      reason: 'internal',
      retry: 'same',
      cause,
    });
    for (const pending of thread.pending.values()) pending.reject(error);
    thread.pending.clear();
  }

  async #stop(): Promise<void> {
    await Promise.all(
      [...this.#threads].map(async (thread) => {
        const { worker, pending } = thread;
        // a thread that ends instead of answering has lost its jobs
        while (pending.size > 0) await new Promise((resolve) => worker.once('message', resolve).once('exit', resolve));
        await endThread(worker);
      }),
    );
    this.#regions.clear();
  }
}

/** What transfers need of codec threads. */
export type Codecs = Pick<
  CodecPool,
  'threads' | 'warm' | 'register' | 'encode' | 'decode' | 'converter' | 'convert' | typeof Symbol.asyncDispose
>;

function registration(region: number, buffer: NativeBuffer): CodecRequest {
  return { kind: 'register', region, address: buffer.address, byteLength: buffer.byteLength };
}

function post(thread: Thread, request: CodecRequest): void {
  thread.worker.postMessage(request);
}

function settle(thread: Thread, response: CodecResponse): void {
  const pending = thread.pending.get(response.job);
  if (pending === undefined) return;
  thread.pending.delete(response.job);
  if (thread.pending.size === 0) thread.worker.unref();
  if (response.kind === 'failed') {
    const code =
      response.reason === 'checksum' ? 'data_loss' : response.reason === 'malformed_frame' ? 'invalid_argument' : 'internal';
    pending.reject(new ServiceError(response.message, { code, reason: response.reason }));
  } else {
    pending.resolve(response.part);
  }
}
