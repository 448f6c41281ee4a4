/** Sums what shards answered, per token, in an order that does not depend on who answered first. */
import { combineGraph, type ExpertShape } from '@causeway/models';
import type { Runtime, Session, Tensor } from '@causeway/ort';
import { bytesOf, floats, int64s, NativeArea } from '../native-area.ts';
import { RowCast } from '../row-cast.ts';
import { type AnswerMode, ROW_TYPE_BYTES, type RowType } from '../wire/frame.ts';
import type { AnswerPart } from './dispatch.ts';

/** Sums of fewer additions are made here: in a few microseconds, when to wake another thread for them takes a hundred. */
const MOST_ADDITIONS_HERE = 64 * 1024;

/** A slot without a part. */
const NONE = -1;
/** What is not finite stays so, times this. */
const NOTHING = 0;

export interface AnswerSumOptions {
  runtime: Runtime;
  shape: ExpertShape;
  answers: AnswerMode;
  rowType: RowType;
}

/** Parts [count, hidden] in the order in which they are added, and which of them each token takes. */
interface Layout {
  count: number;
  ordered: readonly AnswerPart[];
  /** Parts of each token, [tokens, k]. */
  slots: Int32Array;
}

export class AnswerSum implements AsyncDisposable {
  readonly #o: AnswerSumOptions;
  readonly #session: Session;
  readonly #cast: RowCast;
  readonly #areas = { parts: new NativeArea(), wide: new NativeArea(), slots: new NativeArea() };

  static async create(o: AnswerSumOptions): Promise<AnswerSum> {
    return new AnswerSum(o, await o.runtime.createSession(combineGraph(o.shape.hidden, o.shape.expertsPerToken)));
  }

  private constructor(o: AnswerSumOptions, session: Session) {
    this.#o = o;
    this.#session = session;
    this.#cast = new RowCast(o.runtime);
  }

  /** Adds the answers for `rows` f32 [N, hidden] up into `output` f32 [N, hidden]. One at a time. */
  async run(rows: Tensor, parts: readonly AnswerPart[], output: Tensor): Promise<void> {
    const { hidden, expertsPerToken } = this.#o.shape;
    const tokens = rows.shape[0] ?? 0;
    const layout = this.#layout(parts, tokens);
    const wide = await this.#gather(layout);
    if (tokens * expertsPerToken * hidden <= MOST_ADDITIONS_HERE) {
      const target = floats(bytesOf(output));
      sumSlots(
        { rows: floats(bytesOf(rows)), parts: floats(wide), slots: layout.slots, hidden, perToken: expertsPerToken },
        target,
      );
      return;
    }
    const slots = int64s(this.#areas.slots.bytes(tokens * expertsPerToken * 8));
    for (const [i, part] of layout.slots.entries()) slots[i] = BigInt(part === NONE ? layout.count : part);
    using partTensor = this.#areas.wide.tensor('f32', [layout.count, hidden]);
    using slotTensor = this.#areas.slots.tensor('i64', [tokens, expertsPerToken]);
    using binding = this.#session.createBinding();
    binding.input('rows', rows).input('parts', partTensor).input('slots', slotTensor).output('output', output);
    await this.#session.run(binding);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cast[Symbol.asyncDispose]();
    await this.#session[Symbol.asyncDispose]();
    for (const area of Object.values(this.#areas)) area[Symbol.dispose]();
  }

  #layout(parts: readonly AnswerPart[], tokens: number): Layout {
    const { expertsPerToken } = this.#o.shape;
    const ordered = parts.toSorted(
      (a, b) => firstExpert(a) - firstExpert(b) || (a.content.tokens[0] ?? 0) - (b.content.tokens[0] ?? 0),
    );
    const slots = new Int32Array(tokens * expertsPerToken).fill(NONE);
    const taken = new Uint16Array(tokens);
    let count = 0;
    for (const { content } of ordered) {
      if (this.#o.answers === 'pairs') {
        for (const one of content.experts) {
          for (const [i, token] of one.tokens.entries()) slots[token * expertsPerToken + (one.slots[i] ?? 0)] = count++;
        }
        continue;
      }
      for (const token of content.tokens) {
        const slot = taken[token] ?? 0;
        taken[token] = slot + 1;
        slots[token * expertsPerToken + slot] = count++;
      }
    }
    return { count, ordered, slots };
  }

  /** All parts one after the other, f32 [count, hidden]. */
  async #gather({ count, ordered }: Layout): Promise<Uint8Array> {
    const { rowType, shape } = this.#o;
    const { parts, wide } = this.#areas;
    const target = (rowType === 'f32' ? wide : parts).bytes(count * shape.hidden * ROW_TYPE_BYTES[rowType]);
    let at = 0;
    for (const { answer } of ordered) {
      target.set(answer.body, at);
      at += answer.body.byteLength;
    }
    if (rowType === 'f32') return target;
    using from = parts.tensor(rowType, [count, shape.hidden]);
    using to = wide.tensor('f32', [count, shape.hidden]);
    await this.#cast.run(from, to);
    return wide.bytes(count * shape.hidden * 4);
  }
}

/** What is added: of each token its row times 0, then its parts in order. */
interface SlotSum {
  rows: Float32Array;
  parts: Float32Array;
  slots: Int32Array;
  hidden: number;
  perToken: number;
}

/** The same additions as `combineGraph`, in the same order and with the same bits: a sum of two f32 is rounded once. */
function sumSlots({ rows, parts, slots, hidden, perToken }: SlotSum, output: Float32Array): void {
  for (let token = 0; token * perToken < slots.length; token++) {
    const from = token * hidden;
    for (let i = 0; i < hidden; i++) output[from + i] = (rows[from + i] as number) * NOTHING;
    for (let slot = 0; slot < perToken; slot++) {
      const part = slots[token * perToken + slot] as number;
      const at = part * hidden;
      for (let i = 0; i < hidden; i++) {
        output[from + i] = (output[from + i] as number) + (part === NONE ? 0 : (parts[at + i] as number));
      }
    }
  }
}

function firstExpert({ content }: AnswerPart): number {
  return content.experts[0]?.expert ?? 0;
}
