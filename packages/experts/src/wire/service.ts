/** `Dispatch` with messages as bytes: gRPC gets them as they are, and frame.ts reads and writes them. */
import { expertV1 } from '@causeway/proto';

const bytes = {
  encode: (message: Uint8Array) => ({ finish: () => message }),
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
