import { GraphBuilder, int } from '@causeway/onnx-graph';
import type { Runtime, Session, Tensor } from '@causeway/ort';
import type { RowType } from './wire/frame.ts';

/** ONNX's numbers of element types (TensorProto.DataType). */
const ONNX_TYPE = { f32: 1, f16: 10, bf16: 16 } as const;

/** Conversions between f32 and the type that rows have on the wire, in ONNX Runtime's threads. Rounds to nearest, ties to even. */
export class RowCast implements AsyncDisposable {
  readonly #sessions = new Map<string, Session>();
  readonly #runtime: Runtime;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Converts all elements of one tensor into the other, of the same shape [rows, width]. */
  async run(from: Tensor, to: Tensor): Promise<void> {
    const session = await this.#session(from.type as RowType, to.type as RowType);
    using binding = session.createBinding();
    binding.input('x', from).output('y', to);
    await session.run(binding);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions.values()) await session[Symbol.asyncDispose]();
    this.#sessions.clear();
  }

  async #session(from: RowType, to: RowType): Promise<Session> {
    const key = `${from}-${to}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const graph = new GraphBuilder(`cast-${key}`);
    const x = graph.input('x', from, ['N', 'W']);
    const cast = graph.op('Cast', [x], { to: int(ONNX_TYPE[to]) });
    graph.output(graph.rename(cast, 'y'), to, ['N', 'W']);
    const session = await this.#runtime.createSession(graph.serialize());
    this.#sessions.set(key, session);
    return session;
  }
}
