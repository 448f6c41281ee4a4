export { renderCompose, renderNatsConfig, renderPrometheus } from './compose.ts';
export { defaultTopology } from './default-topology.ts';
export { parseTopology } from './parse-topology.ts';
export { renderProcesses, ROLE_ORDER } from './processes.ts';
export type { Placement, ProcessSpec } from './processes.ts';
export type { Pool, Role, RouterPool, Topology, WorkerPool } from './schema.ts';
export { workerThreads } from './threads.ts';
export { formatBytes, parseCores, parseDurationMs } from './units.ts';
