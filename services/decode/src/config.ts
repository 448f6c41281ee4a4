import { workerConfig } from '@causeway/worker-runtime';

/** Settings of a decode worker: those of every worker. */
export const config = workerConfig;
