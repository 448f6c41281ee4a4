import type { RunState } from '../cluster/run-state.ts';
import type { Output } from './output.ts';

/** What to do with a cluster that is ready. A key is not shown: whoever asks puts it in. */
export function usageLines(
  at: { httpUrl: string; grpcAddress: string; wantsKey: boolean },
  model: string,
  out: Output,
): string[] {
  const key = at.wantsKey ? ` -H "authorization: Bearer $CAUSEWAY_API_KEY"` : '';
  const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'What color is snow?' }], stream: true });
  return [
    `${out.bold('ready')}  HTTP ${at.httpUrl}/v1  ·  gRPC ${at.grpcAddress}`,
    '',
    `  curl -N ${at.httpUrl}/v1/chat/completions -H 'content-type: application/json'${key} -d '${body}'`,
    '',
    `  ./causeway chat     ./causeway status     ./causeway logs [SERVICE] -f`,
    `  Ctrl-C (or ./causeway down) drains and stops it`,
    '',
  ];
}

/** `model a`, `models a, b`. */
export function modelNames(models: readonly { name: string }[]): string {
  return `model${models.length === 1 ? '' : 's'} ${models.map(({ name }) => name).join(', ')}`;
}

/** For a second `up`, and for nobody else. */
export function describeRunning(state: RunState | undefined): string {
  if (state === undefined) return 'another `causeway up` is starting or stopping in this checkout; try again when it is done';
  return (
    `a cluster of this checkout is already ${state.phase === 'ready' ? 'up' : state.phase} (pid ${state.supervisor.pid}, since ${state.startedAt}): ` +
    `${state.httpUrl}, ${modelNames(state.models)}\nuse it, or stop it first: ./causeway down`
  );
}
