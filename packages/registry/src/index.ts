export { connectRedis } from './connection.ts';
export type { RedisConnection, RedisConnectOptions, RegistryLogger } from './connection.ts';
export {
  EXPERT_INDEX_KEY,
  expertLeaderKey,
  expertLoadsKey,
  expertPlacementKey,
  expertShardKey,
  isWorkerId,
  NATS_MONITOR_KEY,
  WORKER_INDEX_KEY,
  workerKey,
} from './keys.ts';
export { holdLock, releaseLock } from './lock.ts';
export { RegistryView } from './view.ts';
export type { RegistrySnapshot, RegistryViewOptions } from './view.ts';
export { checkWorkerRecord, MAX_LINKS, workerRecordSchema } from './worker-record.ts';
export type { WorkerIdentity, WorkerLink, WorkerRecord, WorkerState } from './worker-record.ts';
export { readWorkerProfiles, writeWorkerProfile } from './worker-profile.ts';
export type { WorkerProfile } from './worker-profile.ts';
export { RegistryWriter } from './writer.ts';
export type { RegistryWriterOptions } from './writer.ts';
