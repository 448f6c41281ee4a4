/** Codec threads whose jobs run when the scheduler says so, one after another, with the code that the real threads run. */
import {
  BlockConverter,
  type Codecs,
  type ConvertJob,
  type DecodedPart,
  type DecodeJob,
  type EncodedPart,
  type EncodeJob,
  type KvDescriptor,
  type KvWireForm,
  type MemoryRun,
} from '@causeway/kv';
import { decodeRuns, encodeRuns } from '@causeway/kv/internal';

type NativeMemory = Parameters<Codecs['register']>[0];

export class ScheduledCodecs implements Codecs {
  readonly threads = 1;
  /** Jobs that wait, oldest first. */
  readonly waiting: (() => void)[] = [];
  /** Grows with every job. */
  activity = 0;
  /** Faults to be found: jobs are said to be done when they are asked for. */
  readonly #answersEarly: { decode: boolean; convert: boolean };
  readonly #regions: NativeMemory[] = [];
  readonly #converters: BlockConverter[] = [];
  #closed = false;

  constructor(answersEarly = { decode: false, convert: false }) {
    this.#answersEarly = answersEarly;
  }

  warm(): void {}

  register(buffer: NativeMemory): number {
    return this.#regions.push(buffer) - 1;
  }

  converter(descriptor: KvDescriptor, wire: KvWireForm): number {
    return this.#converters.push(new BlockConverter(descriptor, wire)) - 1;
  }

  encode(job: EncodeJob): Promise<EncodedPart> {
    const { codec, elementBytes, raw, out } = job;
    const run = () => encodeRuns(codec, elementBytes, raw, out, this.#view);
    // as in CodecPool, `none` is the calling thread's own work
    return codec === 'none' ? Promise.resolve(run()) : this.#later(run);
  }

  decode(job: DecodeJob): Promise<DecodedPart> {
    const { codec, elementBytes, body, rawCrc, raw } = job;
    const bytes = () => (body instanceof Uint8Array ? body : this.#view(body));
    const run = () => decodeRuns(codec, elementBytes, bytes(), rawCrc, raw, this.#view);
    if (this.#answersEarly.decode) {
      // what it read may be another's by then
      this.waiting.push(() => {
        try {
          run();
        } catch {}
      });
      return Promise.resolve({ decodeMs: 0 });
    }
    return codec === 'none' ? new Promise((resolve) => resolve(run())) : this.#later(run);
  }

  async convert(job: ConvertJob): Promise<number> {
    const converter = this.#converters[job.converter] as BlockConverter;
    for (const block of job.blocks) {
      const converted = this.#later(() => {
        const page = this.#view({ region: job.pageRegion, offset: block.page, length: job.pageBytes });
        const wire = this.#view({ region: job.wireRegion, offset: block.wire, length: job.wireBytes });
        if (job.way === 'toWire') converter.toWire(page, wire, job.layers);
        else converter.fromWire(wire, page, job.layers);
      });
      if (!this.#answersEarly.convert) await converted;
    }
    return 0;
  }

  /** Runs one of the waiting jobs. */
  run(index: number): boolean {
    const [job] = this.waiting.splice(index, 1);
    job?.();
    return job !== undefined;
  }

  /** Runs what waits, as CodecPool does before its threads end. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    while (this.run(0));
    return Promise.resolve();
  }

  readonly #view = ({ region, offset, length }: MemoryRun): Uint8Array =>
    (this.#regions[region] as NativeMemory).bytes(offset, length);

  #later<T>(run: () => T): Promise<T> {
    if (this.#closed) return Promise.reject(new Error('the codecs are closed'));
    this.activity++;
    return new Promise((resolve, reject) => {
      this.waiting.push(() => {
        try {
          resolve(run());
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }
}
