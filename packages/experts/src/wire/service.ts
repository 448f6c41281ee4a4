/** `Dispatch` with messages as bytes: gRPC gets them as they are, and frame.ts reads and writes them. */
import { expertV1 } from '@causeway/proto';

/**
 * nice-grpc puts what it is given through `Buffer.from`, which copies bytes, but only wraps an ArrayBuffer: a message that fills its own
 * is passed as that.
 */
function uncopied(message: Uint8Array): Uint8Array {
  const { buffer, byteLength } = message;
  return byteLength === buffer.byteLength ? (buffer as unknown as Uint8Array) : message;
}

const bytes = {
  encode: (message: Uint8Array) => ({ finish: () => uncopied(message) }),
  decode: (input: Uint8Array) => input,
  fromPartial: (message: unknown) => message as Uint8Array,
};

/** causeway.expert.v1.Experts, both ways in encoded messages. */
export const ExpertsBytesDefinition = {
  name: expertV1.ExpertsDefinition.name,
  fullName: expertV1.ExpertsDefinition.fullName,
  methods: {
    dispatch: { ...expertV1.ExpertsDefinition.methods.dispatch, requestType: bytes, responseType: bytes },
  },
} as const;

/** Path of `Dispatch`. */
export const DISPATCH_PATH = `/${expertV1.ExpertsDefinition.fullName}/${expertV1.ExpertsDefinition.methods.dispatch.name}`;
