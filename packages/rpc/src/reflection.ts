import { DESCRIPTOR_SET_BASE64, type reflectionV1 } from '@causeway/proto';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type DescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  type FileDescriptorProto,
} from '@bufbuild/protobuf/wkt';
import { STATUS_MAP } from '@causeway/errors';

interface DescriptorIndex {
  /** Serialised file and the names it imports, by file name. */
  files: ReadonlyMap<string, { bytes: Uint8Array; imports: readonly string[] }>;
  /** File name by fully-qualified symbol: messages, enums, services, methods, fields. */
  symbols: ReadonlyMap<string, string>;
}

let index: DescriptorIndex | undefined;

/** Handler of ServerReflectionInfo; v1 and v1alpha have the same messages. */
export type ReflectionHandler = (
  requests: AsyncIterable<reflectionV1.ServerReflectionRequest>,
) => AsyncGenerator<reflectionV1.ServerReflectionResponse, void, undefined>;

/**
 * gRPC server reflection (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md) over the descriptors of proto/.
 * Lists only the services given. A file is answered together with everything it imports. Streams end when `ending` aborts.
 */
export function createReflection(services: readonly string[], ending: AbortSignal): ReflectionHandler {
  return async function* (requests) {
    index ??= buildIndex(Buffer.from(DESCRIPTOR_SET_BASE64, 'base64'));
    const { promise: ended, resolve } = Promise.withResolvers<'ended'>();
    const onEnd = (): void => resolve('ended');
    ending.addEventListener('abort', onEnd, { once: true });
    const iterator = requests[Symbol.asyncIterator]();
    try {
      while (!ending.aborted) {
        const next = await Promise.race([iterator.next(), ended]);
        if (next === 'ended' || next.done === true) return;
        const request = next.value;
        yield { validHost: request.host, originalRequest: request, messageResponse: answer(index, services, request) };
      }
    } finally {
      ending.removeEventListener('abort', onEnd);
    }
  };
}

type Answer = NonNullable<reflectionV1.ServerReflectionResponse['messageResponse']>;

function answer(
  descriptors: DescriptorIndex,
  services: readonly string[],
  request: reflectionV1.ServerReflectionRequest,
): Answer {
  const query = request.messageRequest;
  switch (query?.$case) {
    case 'listServices':
      return { $case: 'listServicesResponse', value: { service: services.map((name) => ({ name })) } };
    case 'fileByFilename':
      return fileAnswer(descriptors, query.value, query.value);
    case 'fileContainingSymbol':
      return fileAnswer(descriptors, descriptors.symbols.get(query.value), query.value);
    case 'fileContainingExtension':
    case 'allExtensionNumbersOfType':
      return refuse(STATUS_MAP.not_found.grpc, 'there are no extensions here: all files are proto3');
    case undefined:
      return refuse(STATUS_MAP.invalid_argument.grpc, 'the request asks for nothing');
    default:
      query satisfies never;
      return refuse(STATUS_MAP.unimplemented.grpc, 'unknown kind of request');
  }
}

function refuse(errorCode: number, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } };
}

function fileAnswer(descriptors: DescriptorIndex, name: string | undefined, asked: string): Answer {
  if (name === undefined || !descriptors.files.has(name))
    return refuse(STATUS_MAP.not_found.grpc, `${asked.slice(0, 200)} is not known here`);
  const wanted = new Set([name]);
  // A set grows while it is walked: this visits imports of imports, each once.
  for (const file of wanted) for (const imported of descriptors.files.get(file)?.imports ?? []) wanted.add(imported);
  const found = [...wanted].flatMap((file) => descriptors.files.get(file)?.bytes ?? []);
  return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto: found } };
}

function buildIndex(set: Uint8Array): DescriptorIndex {
  const files = new Map<string, { bytes: Uint8Array; imports: readonly string[] }>();
  const symbols = new Map<string, string>();
  for (const file of fromBinary(FileDescriptorSetSchema, set).file) {
    files.set(file.name, { bytes: toBinary(FileDescriptorProtoSchema, file), imports: file.dependency });
    for (const symbol of symbolsOf(file)) symbols.set(symbol, file.name);
  }
  return { files, symbols };
}

function* symbolsOf(file: FileDescriptorProto): Generator<string> {
  const prefix = file.package === '' ? '' : `${file.package}.`;
  for (const message of file.messageType) yield* messageSymbols(prefix, message);
  for (const type of file.enumType) yield `${prefix}${type.name}`;
  for (const service of file.service) {
    yield `${prefix}${service.name}`;
    for (const method of service.method) yield `${prefix}${service.name}.${method.name}`;
  }
}

function* messageSymbols(prefix: string, message: DescriptorProto): Generator<string> {
  const name = `${prefix}${message.name}`;
  yield name;
  for (const field of message.field) yield `${name}.${field.name}`;
  for (const oneof of message.oneofDecl) yield `${name}.${oneof.name}`;
  for (const type of message.enumType) yield `${name}.${type.name}`;
  for (const nested of message.nestedType) yield* messageSymbols(`${name}.`, nested);
}
