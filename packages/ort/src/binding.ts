/**
 * Which tensors a run reads and writes.
 *
 * Invariants
 *  B1  Every bound tensor is held, so its OrtValue and its memory outlive any run.
 *  B2  While a run uses the arrays nothing changes them: binding, running again and freeing wait or throw.
 */
import { fail } from '@causeway/errors';
import { live } from './diagnostics.ts';
import { Lifetime } from './lifetime.ts';
import { type CString, cString, pointerArray } from './native-call.ts';
import type { SessionValue } from './session-values.ts';
import { nativeValue, type Tensor } from './tensor.ts';

/** One session's inputs or outputs by name, with the C strings that every run of it names them by. */
export type ValueNames = ReadonlyMap<string, SessionValue & { text: CString }>;

/** Prepares a session's names once, for all its bindings. */
export function valueNames(values: readonly SessionValue[]): ValueNames {
  return new Map(values.map((value) => [value.name, { ...value, text: cString(value.name) }]));
}

/** Parallel arrays of name and value pointers; a value bound again is replaced in place. */
class Side {
  readonly #what: string;
  readonly #known: ValueNames;
  readonly #bound = new Map<string, { tensor: Tensor; at: number; hold: Disposable }>();
  readonly names: BigUint64Array;
  readonly values: BigUint64Array;

  constructor(what: string, known: ValueNames) {
    this.#what = what;
    this.#known = known;
    this.names = pointerArray(known.size);
    this.values = pointerArray(known.size);
  }

  get count(): number {
    return this.#bound.size;
  }

  bind(name: string, tensor: Tensor): void {
    const before = this.#bound.get(name);
    const value = nativeValue(tensor);
    if (before?.tensor === tensor) return;
    const known = this.#known.get(name);
    if (known === undefined) {
      const names = [...this.#known.keys()].join(', ');
      fail('invalid_argument', 'runtime', `the session has no ${this.#what} ${name}; it has ${names}`);
    }
    if (known.type !== tensor.type) {
      fail('invalid_argument', 'runtime', `the ${this.#what} ${name} is ${known.type}, not ${tensor.type}`);
    }
    const at = before?.at ?? this.count;
    this.#bound.set(name, { tensor, at, hold: tensor.retain() });
    this.names[at] = known.text.address;
    this.values[at] = value;
    before?.hold[Symbol.dispose]();
  }

  missing(): string[] {
    return this.count === this.#known.size ? [] : [...this.#known.keys()].filter((name) => !this.#bound.has(name));
  }

  clear(): void {
    for (const { hold } of this.#bound.values()) hold[Symbol.dispose]();
    this.#bound.clear();
  }
}

/** Freezes a binding for a run: the last six arguments of the C call. Dispose when it has returned. For this package only. */
export let beginRun: (binding: Binding) => { args: readonly unknown[] } & Disposable;

/** Names and tensors of one way to run a session; made by `Session.createBinding`. Binding a name again costs two stores. */
export class Binding implements Disposable {
  readonly #inputs: Side;
  readonly #outputs: Side;
  readonly #lifetime: Lifetime;
  #running = false;

  constructor(inputs: ValueNames, outputs: ValueNames) {
    this.#inputs = new Side('input', inputs);
    this.#outputs = new Side('output', outputs);
    live.bindings++;
    this.#lifetime = new Lifetime('a binding', () => {
      this.#inputs.clear();
      this.#outputs.clear();
      live.bindings--;
    });
  }

  /** @throws ServiceError for a name or element type that the session does not have, a disposed tensor, or while a run uses the binding. */
  input(name: string, tensor: Tensor): this {
    this.#check();
    this.#inputs.bind(name, tensor);
    return this;
  }

  /** As `input`. The same tensor may be an input too: a cache is then updated in place. Outputs that are not bound are not computed. */
  output(name: string, tensor: Tensor): this {
    this.#check();
    this.#outputs.bind(name, tensor);
    return this;
  }

  /** Lets go of the tensors, at the end of the run if one is under way. Idempotent. */
  [Symbol.dispose](): void {
    this.#lifetime.end();
  }

  #check(): void {
    this.#lifetime.check();
    if (this.#running) fail('failed_precondition', 'runtime', 'a binding was changed or run while a run uses it');
  }

  static {
    beginRun = (binding) => {
      binding.#check();
      const inputs = binding.#inputs;
      const outputs = binding.#outputs;
      const missing = inputs.missing();
      if (missing.length > 0) fail('failed_precondition', 'runtime', `inputs not bound: ${missing.join(', ')}`);
      if (outputs.count === 0) fail('failed_precondition', 'runtime', `no output is bound: ${outputs.missing().join(', ')}`);
      const hold = binding.#lifetime.hold();
      binding.#running = true;
      return {
        args: [inputs.names, inputs.values, inputs.count, outputs.names, outputs.count, outputs.values],
        [Symbol.dispose]: () => {
          binding.#running = false;
          hold[Symbol.dispose]();
        },
      };
    };
  }
}
