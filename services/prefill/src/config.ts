import { workerConfig } from '@causeway/worker-runtime';

/** Settings of a prefill worker: those of every worker. */
export const config = workerConfig;
