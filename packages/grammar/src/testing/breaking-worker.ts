/** The thread of TokenConstraints, but certain choices make it hang, crash or run out of memory; for tests. */
import { parentPort } from 'node:worker_threads';
import type { MatcherRequest } from '../matcher-messages.ts';

function breakOn(request: MatcherRequest): void {
  if (request.kind !== 'open' || request.constraint.kind !== 'choice') return;
  const [first] = request.constraint.choices;
  if (first === 'hang') for (;;);
  if (first === 'crash') process.exit(3);
  if (first === 'throw') throw new Error('trapped');
  if (first === 'grow') for (const kept: number[][] = []; ; ) kept.push(Array.from({ length: 1e6 }, (_, i) => i));
}

const port = parentPort;
if (port === null) throw new Error('it runs as a worker thread only');
const on = port.on.bind(port) as (event: string, listener: (request: MatcherRequest) => void) => typeof port;
Object.assign(port, {
  on: (event: string, listener: (request: MatcherRequest) => void) =>
    on(event, (request) => {
      breakOn(request);
      listener(request);
    }),
});
await import('../matcher-worker.ts');
