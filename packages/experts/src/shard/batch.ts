/** Several frames of one layer as one run of its experts. */
import type { ExpertShape } from '@causeway/models';
import { type Runtime, Tensor } from '@causeway/ort';
import { floats, int64s, NativeArea } from '../native-area.ts';
import { RowCast } from '../row-cast.ts';
import { ROW_TYPE_BYTES } from '../wire/frame.ts';
import type { HeldGroup } from './held-experts.ts';
import { RunTimes } from './run-times.ts';
import type { ShardFrame } from './shard-frame.ts';

/** Copies of more than this give the event loop a turn. */
const BYTES_PER_TURN = 8 * 1024 * 1024;

/** Takes a frame's answer of so many bytes: calls `write` at once with the memory that it goes to. */
export type TakeAnswer = (frame: ShardFrame, write: (body: Uint8Array) => void, bytes: number) => void;

/** Where a frame's pairs went in the run. */
interface PlacedFrame {
  frame: ShardFrame;
  firstRow: number;
  /** Place in the run of each of its pairs. */
  places: Uint32Array;
}

/** Memory and sessions of the runs of one shard. One run at a time. */
export class ExpertBatch implements AsyncDisposable {
  readonly #shape: ExpertShape;
  readonly #cast: RowCast;
  readonly #times = new RunTimes();
  readonly #areas = {
    rows: new NativeArea(),
    narrow: new NativeArea(),
    pairRow: new NativeArea(),
    pairWeight: new NativeArea(),
    counts: new NativeArea(),
    slots: new NativeArea(),
    answers: new NativeArea(),
    sums: new NativeArea(),
  };

  constructor(runtime: Runtime, shape: ExpertShape) {
    this.#shape = shape;
    this.#cast = new RowCast(runtime);
  }

  /** Runs all frames at once; `answer` gets each frame's. Gives the milliseconds of the run itself. */
  async run(group: HeldGroup, frames: readonly ShardFrame[], answer: TakeAnswer): Promise<number> {
    const { hidden } = this.#shape;
    const rowCount = frames.reduce((sum, frame) => sum + frame.rowCount, 0);
    const pairs = frames.reduce((sum, frame) => sum + frame.pairRows.length, 0);
    using stack = new DisposableStack();
    const tensor = (area: NativeArea, type: 'f32' | 'i64', shape: readonly number[]): Tensor =>
      stack.use(area.tensor(type, shape));
    const a = this.#areas;
    const rows = tensor(a.rows, 'f32', [rowCount, hidden]);
    const placed = this.#placePairs(group, frames, rowCount, pairs);
    await this.#copyRows(placed, rowCount);
    const binding = stack.use(group.session.createBinding());
    binding
      .input('rows', rows)
      .input('pair_row', tensor(a.pairRow, 'i64', [pairs]))
      .input('pair_weight', tensor(a.pairWeight, 'f32', [pairs, 1]))
      .input('counts', tensor(a.counts, 'i64', [group.experts.length]))
      .input('slots', tensor(a.slots, 'i64', [rowCount, this.#shape.expertsPerToken]));
    const wants = (mode: ShardFrame['answers']): boolean => frames.some(({ answers }) => answers === mode);
    if (wants('pairs')) binding.output('answers', tensor(a.answers, 'f32', [pairs, hidden]));
    if (wants('sums')) binding.output('sums', tensor(a.sums, 'f32', [rowCount, hidden]));
    const start = performance.now();
    if (this.#times.short(pairs)) group.session.runHere(binding);
    else await group.session.run(binding);
    const computeMs = performance.now() - start;
    this.#times.add(pairs, computeMs);
    let copied = 0;
    for (const one of placed) {
      copied += await this.#answer(one, answer);
      if (copied < BYTES_PER_TURN) continue;
      copied = 0;
      await nextTurn();
    }
    // HTTP/2 sends at the end of a turn: the answers leave before anything is put away or another run takes the thread.
    await nextTurn();
    return computeMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const area of Object.values(this.#areas)) area[Symbol.dispose]();
    await this.#cast[Symbol.asyncDispose]();
  }

  /** Counting sort of all pairs by expert, frames in order; each row's slots ascend by expert. */
  #placePairs(group: HeldGroup, frames: readonly ShardFrame[], rowCount: number, pairs: number): PlacedFrame[] {
    const { expertsPerToken: perRow } = this.#shape;
    const next = new Uint32Array(group.experts.length);
    for (const { pairExperts } of frames) {
      for (const expert of pairExperts) next[group.place.get(expert) ?? 0] = (next[group.place.get(expert) ?? 0] ?? 0) + 1;
    }
    const counts = int64s(this.#areas.counts.bytes(group.experts.length * 8));
    for (let place = 0, before = 0; place < next.length; place++) {
      const count = next[place] ?? 0;
      counts[place] = BigInt(count);
      next[place] = before;
      before += count;
    }
    const pairRow = int64s(this.#areas.pairRow.bytes(pairs * 8));
    const weight = floats(this.#areas.pairWeight.bytes(pairs * 4));
    const slots = int64s(this.#areas.slots.bytes(rowCount * perRow * 8)).fill(BigInt(pairs));
    const taken = new Uint32Array(rowCount);
    let firstRow = 0;
    return frames.map((frame): PlacedFrame => {
      const places = new Uint32Array(frame.pairRows.length);
      for (let pair = 0; pair < places.length; pair++) {
        const expert = group.place.get(frame.pairExperts[pair] as number) ?? 0;
        const at = next[expert] ?? 0;
        next[expert] = at + 1;
        const row = firstRow + (frame.pairRows[pair] as number);
        places[pair] = at;
        pairRow[at] = BigInt(row);
        weight[at] = frame.pairWeights[pair] as number;
        const slot = taken[row] ?? 0;
        taken[row] = slot + 1;
        slots[row * perRow + slot] = BigInt(at);
      }
      const place = { frame, firstRow, places };
      firstRow += frame.rowCount;
      return place;
    });
  }

  async #copyRows(placed: readonly PlacedFrame[], rowCount: number): Promise<void> {
    const { hidden } = this.#shape;
    const bytes = this.#areas.rows.bytes(rowCount * hidden * 4);
    let copied = 0;
    for (const { frame, firstRow } of placed) {
      if (frame.rowType === 'f32') bytes.set(frame.rows, firstRow * hidden * 4);
      else await this.#widen(frame, firstRow, rowCount);
      copied += frame.rows.byteLength;
      if (copied < BYTES_PER_TURN) continue;
      copied = 0;
      await nextTurn();
    }
  }

  async #widen(frame: ShardFrame, firstRow: number, rowCount: number): Promise<void> {
    const { hidden } = this.#shape;
    this.#areas.narrow.bytes(frame.rows.byteLength).set(frame.rows);
    using from = this.#areas.narrow.tensor(frame.rowType, [frame.rowCount, hidden]);
    using all = this.#areas.rows.tensor('f32', [rowCount, hidden]);
    using to = part(all, firstRow, frame.rowCount);
    await this.#cast.run(from, to);
  }

  /** Gives the frame's answer; returns its bytes. */
  async #answer({ frame, firstRow, places }: PlacedFrame, answer: TakeAnswer): Promise<number> {
    const { hidden } = this.#shape;
    const sums = frame.answers === 'sums';
    const count = sums ? frame.rowCount : places.length;
    const area = sums ? this.#areas.sums : this.#areas.answers;
    const rowBytes = hidden * ROW_TYPE_BYTES[frame.rowType];
    const bytes = count * rowBytes;
    if (frame.rowType === 'f32') {
      answer(
        frame,
        (body) => {
          if (sums) body.set(area.bytes((firstRow + count) * rowBytes).subarray(firstRow * rowBytes));
          else gather(area.bytes(area.byteLength), places, rowBytes, body);
        },
        bytes,
      );
      return bytes;
    }
    using gathered = new NativeArea();
    const wide = gathered.bytes(count * hidden * 4);
    if (sums) wide.set(area.bytes((firstRow + count) * hidden * 4).subarray(firstRow * hidden * 4));
    else gather(area.bytes(area.byteLength), places, hidden * 4, wide);
    using from = gathered.tensor('f32', [count, hidden]);
    using to = this.#areas.narrow.tensor(frame.rowType, [count, hidden]);
    await this.#cast.run(from, to);
    answer(frame, (body) => body.set(this.#areas.narrow.bytes(bytes)), bytes);
    return bytes;
  }
}

function gather(from: Uint8Array, places: Uint32Array, rowBytes: number, to: Uint8Array): void {
  for (let i = 0; i < places.length; i++) {
    const at = (places[i] as number) * rowBytes;
    to.set(from.subarray(at, at + rowBytes), i * rowBytes);
  }
}

/** Rows [first, first + count) of a tensor. */
function part(tensor: Tensor, first: number, count: number): Tensor {
  const width = tensor.shape[1] ?? 0;
  return Tensor.of(tensor.buffer, first * width * 4, 'f32', [count, width]);
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
