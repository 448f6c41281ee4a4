import { inferenceV1 } from '@causeway/proto';

/** A message as its bytes. grpc-js decodes on the event loop, and a message of a million empty fields takes long: the router reads them itself. */
const asBytes = {
  decode: (bytes: Uint8Array): Uint8Array => bytes,
  encode: (bytes: Uint8Array): { finish(): Uint8Array } => ({ finish: () => bytes }),
};

const { methods } = inferenceV1.InferenceDefinition;

/** causeway.inference.v1.Inference with the messages that can be large left encoded: both requests, and Tokenize's response. */
export const RawInferenceDefinition = {
  ...inferenceV1.InferenceDefinition,
  methods: {
    ...methods,
    generate: { ...methods.generate, requestType: asBytes },
    tokenize: { ...methods.tokenize, requestType: asBytes, responseType: asBytes },
  },
} as const;
