/** Generated messages and service definitions, one namespace per proto package. Only edges import this. */
export * as expertV1 from './gen/causeway/expert/v1/expert.ts';
export * as inferenceV1 from './gen/causeway/inference/v1/inference.ts';
export * as kvV1 from './gen/causeway/kv/v1/kv.ts';
export * as workerV1 from './gen/causeway/worker/v1/worker.ts';
export { DESCRIPTOR_SET_BASE64 } from './gen/descriptor-set.ts';
export * as healthV1 from './gen/grpc/health/v1/health.ts';
export * as reflectionV1 from './gen/grpc/reflection/v1/reflection.ts';
export * as reflectionV1Alpha from './gen/grpc/reflection/v1alpha/reflection.ts';
