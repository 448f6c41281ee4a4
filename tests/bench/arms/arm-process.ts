/** Arms run in processes of their own: their threads, memory and CPU time don't mix, and each has its own thread settings. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { type Arm, type ArmSpec, type Measured, type MeasuredBatch } from './arm.ts';
import { causewayArm } from './causeway-arm.ts';
import { llamaCppArm } from './llama-cpp-arm.ts';

type Order =
  | { kind: 'start'; spec: ArmSpec }
  | { kind: 'run'; prompt: readonly number[]; steps: number }
  | Together
  | { kind: 'end' };
interface Together {
  kind: 'together';
  prompts: readonly (readonly number[])[];
  steps: number;
}
type Answer = { ok: true; value: unknown } | { ok: false; error: string };

async function ask<T>(child: ChildProcess, order: Order): Promise<T> {
  const ended = new AbortController();
  const answered = once(child, 'message', { signal: ended.signal }) as Promise<[Answer]>;
  const died = once(child, 'exit', { signal: ended.signal }).then(([code, signal]) => {
    throw new Error(`an arm's process ended with ${String(code ?? signal)}`);
  });
  died.catch(() => undefined);
  child.send(order);
  try {
    const [answer] = await Promise.race([answered, died]);
    if (!answer.ok) throw new Error(answer.error);
    return answer.value as T;
  } finally {
    ended.abort();
  }
}

/** Starts an arm's process and loads its model. @throws Error with the arm's own message */
export async function startArm(spec: ArmSpec): Promise<Required<Arm>> {
  const child = fork(import.meta.filename, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const dispose = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.send({ kind: 'end' } satisfies Order);
    await exited;
  };
  try {
    const version = await ask<string>(child, { kind: 'start', spec });
    return {
      version,
      run: (prompt, steps) => ask<Measured>(child, { kind: 'run', prompt, steps }),
      together: (prompts, steps) => ask<MeasuredBatch>(child, { kind: 'together', prompts, steps }),
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

/** The arm's side. */
function serve(): void {
  let arm: Arm | undefined;
  const started = (): Arm => {
    if (arm === undefined) throw new Error('the arm has not started');
    return arm;
  };
  const carryOut = async (order: Order): Promise<unknown> => {
    switch (order.kind) {
      case 'start':
        arm = await (order.spec.kind === 'causeway' ? causewayArm(order.spec) : llamaCppArm(order.spec));
        return arm.version;
      case 'run':
        return started().run(order.prompt, order.steps);
      case 'together': {
        const { together } = started();
        if (together === undefined) throw new Error('this arm cannot decode sequences together');
        return together(order.prompts, order.steps);
      }
      case 'end':
        await arm?.[Symbol.asyncDispose]();
        process.disconnect();
        return undefined;
      default:
        return order satisfies never;
    }
  };
  // Whoever started the arm has ended, or told it to: what it still computes is for nobody.
  process.on('disconnect', () => process.kill(process.pid));
  process.on('message', (order: Order) => {
    carryOut(order).then(
      (value) => process.connected && process.send?.({ ok: true, value } satisfies Answer),
      (error: unknown) =>
        process.connected &&
        process.send?.({ ok: false, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
}

if (process.argv[1] === import.meta.filename && process.send !== undefined) serve();
