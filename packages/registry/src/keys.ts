import { fail } from '@causeway/errors';

/** Every Redis key of Causeway. Version 1 is in the name: another layout gets another. */
const PREFIX = 'causeway:v1';

const WORKER_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Set of worker ids that are or were registered; expires when no worker has written for a while. */
export const WORKER_INDEX_KEY = `${PREFIX}:workers`;

/** True for 1-128 letters, digits and `._-`, beginning with a letter or digit: safe in keys, subjects and metric labels. */
export function isWorkerId(id: string): boolean {
  return WORKER_ID.test(id);
}

/** Record of one worker; expires with its lease. Throws ServiceError `bad_registration` for an id that cannot be a key. */
export function workerKey(id: string): string {
  if (!isWorkerId(id)) {
    fail(
      'invalid_argument',
      'bad_registration',
      `worker id ${JSON.stringify(id.slice(0, 80))} must be 1-128 letters, digits, dots, dashes or underscores`,
    );
  }
  return `${PREFIX}:worker:${id}`;
}

/** What a worker was last measured to do; expires. Throws as `workerKey`. */
export function workerProfileKey(id: string): string {
  return workerKey(id).replace(':worker:', ':profile:');
}

/** Set of expert shards that are or were registered. */
export const EXPERT_INDEX_KEY = `${PREFIX}:experts`;

/** Record of one expert shard; expires with its lease. Throws as `workerKey`. */
export function expertShardKey(id: string): string {
  return workerKey(id).replace(':worker:', ':expert:');
}

/** Hash of a model's expert placement: the one in force and the next. */
export function expertPlacementKey(model: string): string {
  return `${PREFIX}:expert-placement:${encodeURIComponent(model)}`;
}

/** Hash by worker of what it asked of each expert of a model. */
export function expertLoadsKey(model: string): string {
  return `${PREFIX}:expert-loads:${encodeURIComponent(model)}`;
}

/** Who changes a model's placement now. */
export function expertLeaderKey(model: string): string {
  return `${PREFIX}:expert-leader:${encodeURIComponent(model)}`;
}

/** Which worker tells of the NATS server among its metrics. */
export const NATS_MONITOR_KEY = `${PREFIX}:nats-monitor`;
