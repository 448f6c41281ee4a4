/** Generated messages and service definitions, one namespace per proto package. Only edges import this. */
export * as inferenceV1 from './gen/causeway/inference/v1/inference.ts';
export * as kvV1 from './gen/causeway/kv/v1/kv.ts';
export * as workerV1 from './gen/causeway/worker/v1/worker.ts';
