import type { ServiceState } from './run-state.ts';

/** What is needed to run one process of the cluster and to know how it does. */
export interface ServicePlan {
  name: string;
  kind: ServiceState['kind'];
  /** What a worker serves, by the name that clients use. */
  model?: string;
  command: string;
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  /** File that takes its output. */
  log: string;
  /** Ports it serves, by what they are for; for people and `status`. */
  ports: Readonly<Record<string, number>>;
  observability?: string;
  /** How long it may take to end after SIGTERM before it is killed. */
  graceMs: number;
  /** What still keeps it from serving; empty when it is ready. May throw: that is a reason too. */
  probe: (signal: AbortSignal) => Promise<readonly string[]>;
}
