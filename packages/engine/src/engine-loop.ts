import { ServiceError } from '@causeway/errors';
import type { PageSet } from '@causeway/kv';
import type { ReservationLine } from './admission.ts';
import { DecodeBatch } from './decode-batch.ts';
import { openText } from './constrained.ts';
import type { EngineParts } from './engine-parts.ts';
import type { AnswerLengths } from './growth.ts';
import { PrefillQueue } from './prefill-queue.ts';
import { Sequence } from './sequence.ts';
import { TokenStream } from './token-stream.ts';
import type { GeneratedToken, Generation } from './types.ts';

/**
 * The engine's loop: at most one prefill chunk, then one decode step for all running sequences, and again while there is work.
 * Everything that touches slots happens here, one thing after another.
 */
export class EngineLoop {
  readonly prefills: PrefillQueue;
  readonly batch: DecodeBatch;
  readonly line: ReservationLine;
  preemptions = 0;
  readonly #parts: EngineParts;
  readonly #lengths: AnswerLengths;
  readonly #resuming = new Map<Sequence, Promise<void>>();
  #arrivals = 0;
  #closed: ServiceError | undefined;
  #wake: (() => void) | undefined;

  constructor(parts: EngineParts, line: ReservationLine, lengths: AnswerLengths) {
    this.#parts = parts;
    this.#lengths = lengths;
    this.line = line;
    this.prefills = new PrefillQueue(parts);
    this.batch = new DecodeBatch(parts, {
      preempt: (sequence) => this.#preempt(sequence),
      finished: (sequence) => {
        this.#lengths.add(sequence.generation.firstPosition + sequence.generated);
        this.#leave(sequence, undefined);
      },
      failed: (sequence, error) => this.#leave(sequence, error),
    });
  }

  /** Sequences that wait for memory after a preemption. */
  get resuming(): number {
    return this.#resuming.size;
  }

  /** Ends an idle loop's wait. */
  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Runs until `close`. */
  async run(): Promise<void> {
    while (this.#closed === undefined) {
      if (this.prefills.length === 0 && !this.batch.hasWork) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      try {
        await this.prefills.step();
        await this.batch.step();
      } catch (error) {
        // Nothing that fails for one request gets here: the failure is the engine's. Nobody may be left waiting for it.
        this.#parts.hooks.onError?.(error);
        this.#failAll(ServiceError.from(error));
      }
      await this.#parts.time.pause();
    }
  }

  /** Takes a sequence whose KV is in `pages`; the stream it returns ends when the answer does. */
  decode(generation: Generation, pages: PageSet, first: GeneratedToken | undefined, signal: AbortSignal): TokenStream {
    const leaving = new AbortController();
    const stream = new TokenStream(() => this.#leave(sequence, undefined));
    const sequence = new Sequence({ arrival: this.#arrivals++, generation, leaving, stream, pages, first });
    const onAbort = (): void => this.#leave(sequence, ServiceError.from(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    stream.onEnd = () => signal.removeEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    else if (this.#closed !== undefined) this.#leave(sequence, this.#closed);
    else {
      sequence.text = openText(this.#parts, generation, sequence.ids.slice(sequence.known.answer));
      this.batch.join(sequence);
    }
    return stream;
  }

  /** Refuses who waits, ends who runs, ends the loop. */
  async close(): Promise<void> {
    const error = new ServiceError('this worker is shutting down', { code: 'unavailable', reason: 'draining', retry: 'other' });
    this.#closed = error;
    this.line[Symbol.dispose]();
    this.prefills.close(error);
    this.#failAll(error);
    this.wake();
    await Promise.all(this.#resuming.values());
  }

  #failAll(error: ServiceError): void {
    this.prefills.failAll(error);
    for (const sequence of [...this.batch.members(), ...this.#resuming.keys()]) this.#leave(sequence, error);
  }

  #leave(sequence: Sequence, error: ServiceError | undefined): void {
    if (sequence.left) return;
    sequence.release();
    this.batch.remove(sequence);
    sequence.stream.end(error);
  }

  #preempt(sequence: Sequence): void {
    this.preemptions++;
    sequence.preemptions++;
    this.#parts.hooks.onPreemption?.();
    sequence.pages?.[Symbol.dispose]();
    sequence.pages = undefined;
    this.#resuming.set(
      sequence,
      this.#comeBack(sequence).finally(() => this.#resuming.delete(sequence)),
    );
  }

  /** Waits for memory, reads the tokens so far again, joins. */
  async #comeBack(sequence: Sequence): Promise<void> {
    const { blockTokens, maxContext } = this.#parts;
    let pages: PageSet | undefined;
    try {
      const { maxTokens } = sequence.generation;
      const ahead = Math.max(1, Math.min(maxTokens - sequence.generated, this.#lengths.growth));
      const tokens = Math.min(sequence.ids.length + ahead, maxContext);
      pages = await this.line.reserveAgain(Math.ceil(tokens / blockTokens), sequence.arrival, sequence.signal);
      const length = sequence.resumeLength;
      const ids = Uint32Array.from(sequence.ids.slice(0, length));
      await this.prefills.read({ ids, pages, signal: sequence.signal, arrival: sequence.arrival });
      pages.own();
      sequence.resumeFrom(pages, length);
      if (sequence.left) sequence.release();
      else this.batch.join(sequence);
    } catch (error) {
      pages?.[Symbol.dispose]();
      this.#leave(sequence, ServiceError.from(error));
    }
  }
}
