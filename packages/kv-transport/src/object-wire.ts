/** Objects of the table on the wire. */
import { fail } from '@causeway/errors';
import { type KvObject, MAX_NAME_LENGTH, MAX_STATE_DIMENSIONS } from '@causeway/kv';
import type { kvV1 } from '@causeway/proto';

/** Object as protobuf. */
export function objectToProto(object: KvObject): kvV1.KvObject {
  switch (object.kind) {
    case 'tokens': {
      const { firstLayer, layerCount, firstToken, tokenCount } = object;
      return { kind: { $case: 'tokens', value: { firstLayer, layerCount, firstToken, tokenCount } } };
    }
    case 'entries': {
      const { layer, ratio, firstEntry, entryCount } = object;
      return { kind: { $case: 'entries', value: { layer, ratio, firstEntry, entryCount } } };
    }
    case 'window': {
      const { layer, firstToken, tokenCount } = object;
      return { kind: { $case: 'window', value: { layer, firstToken, tokenCount } } };
    }
    case 'state': {
      const { layer, name, shape } = object;
      return { kind: { $case: 'state', value: { layer, name, shape: [...shape] } } };
    }
  }
}

/**
 * Object from protobuf; the object table checks it against the descriptor.
 * @throws ServiceError `malformed_frame` for a kind that this build doesn't know, and for what is too long to be looked at
 */
export function objectFromProto({ kind }: kvV1.KvObject, index: number): KvObject {
  if (kind === undefined) {
    return bad(`object ${index} is of unknown kind; this process understands tokens, entries, window and state`);
  }
  switch (kind.$case) {
    case 'tokens':
      return { kind: 'tokens', ...kind.value };
    case 'entries':
      return { kind: 'entries', ...kind.value };
    case 'window':
      return { kind: 'window', ...kind.value };
    case 'state': {
      const { layer, name, shape } = kind.value;
      if (name.length > MAX_NAME_LENGTH) {
        bad(`the state of object ${index} has a name of ${name.length} characters; ${MAX_NAME_LENGTH} are the limit`);
      }
      if (shape.length > MAX_STATE_DIMENSIONS) {
        bad(`the state of object ${index} has ${shape.length} dimensions; ${MAX_STATE_DIMENSIONS} are the limit`);
      }
      return { kind: 'state', layer, name, shape: [...shape] };
    }
  }
}

function bad(message: string): never {
  return fail('invalid_argument', 'malformed_frame', `ticket: ${message}`);
}
