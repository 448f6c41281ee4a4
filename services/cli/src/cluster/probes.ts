import { once } from 'node:events';
import { connect } from 'node:net';
import { METRICS } from '@causeway/telemetry';
import { z } from 'zod';

const readiness = z.object({ ready: z.boolean(), reasons: z.array(z.string()).default([]) });

/** Reasons that a service's `/readyz` gives; empty when it answers 200. */
export async function probeReadyz(address: string, signal: AbortSignal): Promise<readonly string[]> {
  const response = await fetch(`http://${address}/readyz`, { signal });
  if (response.ok) {
    await response.body?.cancel();
    return [];
  }
  const body = readiness.safeParse(await response.json());
  return body.success && body.data.reasons.length > 0 ? body.data.reasons : [`/readyz answers ${response.status}`];
}

/** Workers of each role that a router knows, as its metrics say (Prometheus text format). */
export async function knownWorkers(address: string, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
  const response = await fetch(`http://${address}/metrics`, { signal });
  const sample = new RegExp(`^${METRICS.registryWorkers.name}\\{[^}]*role="(\\w+)"[^}]*\\} (\\S+)`, 'gm');
  const samples = (await response.text()).matchAll(sample);
  return new Map([...samples].map(([, role, value]) => [role ?? '', Number(value)]));
}

/** nats-server: the INFO line that it greets every client with (NATS client protocol). */
export async function probeNats(port: number, signal: AbortSignal): Promise<readonly string[]> {
  return greets(port, undefined, /^INFO /, signal);
}

/** redis-server: PONG to an inline PING (RESP inline commands). */
export async function probeRedis(port: number, signal: AbortSignal): Promise<readonly string[]> {
  return greets(port, 'PING\r\n', /^\+PONG/, signal);
}

async function greets(port: number, say: string | undefined, expect: RegExp, signal: AbortSignal): Promise<readonly string[]> {
  const socket = connect({ host: '127.0.0.1', port });
  try {
    await once(socket, 'connect', { signal });
    if (say !== undefined) socket.write(say);
    const [data] = (await once(socket, 'data', { signal })) as [Buffer];
    const text = data.toString('latin1');
    return expect.test(text) ? [] : [`port ${port} answers "${text.slice(0, 40).trim()}"`];
  } finally {
    socket.destroy();
  }
}
