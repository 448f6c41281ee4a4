import { fail } from '@causeway/errors';
import { pointers } from './api.ts';
import type { CString } from './api.ts';
import type { Tensor } from './tensor.ts';

/** Names and values of one way to run a session. Binding a name again replaces its value; arrays are made anew only then. */
export class Binding implements Disposable {
  readonly #inputs: ReadonlyMap<string, CString>;
  readonly #outputs: ReadonlyMap<string, CString>;
  readonly #in = new Map<string, { tensor: Tensor; hold: Disposable }>();
  readonly #out = new Map<string, { tensor: Tensor; hold: Disposable }>();
  #arrays: RunArrays | undefined;
  #running = false;
  #disposed = false;

  constructor(inputs: ReadonlyMap<string, CString>, outputs: ReadonlyMap<string, CString>) {
    this.#inputs = inputs;
    this.#outputs = outputs;
  }

  /** @throws ServiceError for a name that the session does not have, or while a run uses the binding. */
  input(name: string, tensor: Tensor): this {
    return this.#bind(this.#in, this.#inputs, 'input', name, tensor);
  }

  /** The same tensor may be bound as an input: the cache is then updated in place. */
  output(name: string, tensor: Tensor): this {
    return this.#bind(this.#out, this.#outputs, 'output', name, tensor);
  }

  /** Arrays for the C call; for Session. */
  begin(): RunArrays {
    this.#check();
    const missing = [...this.#inputs.keys()].filter((name) => !this.#in.has(name));
    if (missing.length > 0) fail('failed_precondition', 'runtime', `inputs not bound: ${missing.join(', ')}`);
    this.#arrays ??= {
      inNames: pointers([...this.#in.keys()].map((name) => (this.#inputs.get(name) as CString).address)),
      inValues: pointers([...this.#in.values()].map(({ tensor }) => tensor.handle)),
      outNames: pointers([...this.#out.keys()].map((name) => (this.#outputs.get(name) as CString).address)),
      outValues: pointers([...this.#out.values()].map(({ tensor }) => tensor.handle)),
    };
    this.#running = true;
    return this.#arrays;
  }

  end(): void {
    this.#running = false;
    if (this.#disposed) this.#release();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#running) this.#release();
  }

  #bind(
    side: Map<string, { tensor: Tensor; hold: Disposable }>,
    names: ReadonlyMap<string, CString>,
    what: string,
    name: string,
    tensor: Tensor,
  ): this {
    this.#check();
    if (!names.has(name))
      fail('invalid_argument', 'runtime', `the session has no ${what} ${name}; it has ${[...names.keys()].join(', ')}`);
    const before = side.get(name);
    if (before?.tensor === tensor) return this;
    side.set(name, { tensor, hold: tensor.retain() });
    before?.hold[Symbol.dispose]();
    this.#arrays = undefined;
    return this;
  }

  #check(): void {
    if (this.#disposed) fail('failed_precondition', 'runtime', 'a binding was used after it was disposed');
    if (this.#running) fail('failed_precondition', 'runtime', 'a binding was changed or run while a run uses it');
  }

  #release(): void {
    for (const { hold } of [...this.#in.values(), ...this.#out.values()]) hold[Symbol.dispose]();
    this.#in.clear();
    this.#out.clear();
  }
}

export interface RunArrays {
  inNames: BigUint64Array;
  inValues: BigUint64Array;
  outNames: BigUint64Array;
  outValues: BigUint64Array;
}
