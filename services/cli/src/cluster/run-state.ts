import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { RunPaths } from '../paths.ts';

const identity = z.object({ pid: z.int().min(2), start: z.string().min(1) });

const serviceState = z.object({
  name: z.string(),
  kind: z.enum(['nats', 'redis', 'router', 'prefill', 'decode']),
  /** What a worker serves. */
  model: z.string().optional(),
  /** Absent while it is down. */
  process: identity.optional(),
  phase: z.enum(['starting', 'ready', 'restarting', 'stopping', 'stopped']),
  restarts: z.int(),
  log: z.string(),
  /** `host:port` of `/readyz` and `/metrics`; absent for NATS and Redis. */
  observability: z.string().optional(),
  /** Ports it serves, by what they are for. */
  ports: z.record(z.string(), z.int()),
});

const runState = z.object({
  version: z.literal(1),
  supervisor: identity,
  startedAt: z.string(),
  phase: z.enum(['starting', 'ready', 'draining']),
  models: z.array(z.object({ name: z.string(), path: z.string() })).min(1),
  httpUrl: z.string(),
  grpcAddress: z.string(),
  natsUrl: z.string(),
  redisUrl: z.string(),
  /** Of the topology; absent when it names none. */
  namespace: z.string().optional(),
  /** How long its drain takes at most. */
  stopWithinMs: z.number().optional(),
  services: z.array(serviceState),
});

export type ServiceState = z.infer<typeof serviceState>;
/** What `up` runs, for the other commands; written whenever it changes. */
export type RunState = z.infer<typeof runState>;

/** The state file's content; undefined when there is none or it is not readable as one. */
export function readRunState(paths: RunPaths): RunState | undefined {
  let text: string;
  try {
    text = readFileSync(paths.state, 'utf8');
  } catch {
    return undefined;
  }
  try {
    const result = runState.safeParse(JSON.parse(text));
    return result.success ? result.data : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces the state file in one step: a reader sees the old or the new one, never half. */
export function writeRunState(paths: RunPaths, state: RunState): void {
  mkdirSync(paths.folder, { recursive: true });
  const draft = `${paths.state}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(state, undefined, 2)}\n`);
  renameSync(draft, paths.state);
}

/** Removes the state file; logs stay. */
export function removeRunState(paths: RunPaths): void {
  rmSync(paths.state, { force: true });
}
