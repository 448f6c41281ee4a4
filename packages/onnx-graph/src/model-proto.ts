/**
 * Serialises ModelProto (onnx.proto3, field numbers in the comments) with the protobuf wire writer:
 * the few messages a graph needs, no generated code.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import type { Attribute, Attributes } from './attribute.ts';
import { ONNX_DATA_TYPE, type OnnxElementType } from './element-type.ts';

/** A dimension: its size, or a name for a size known at run time. */
export type Dim = number | string;

export interface ValueInfo {
  name: string;
  type: OnnxElementType;
  shape: readonly Dim[];
}

export interface NodeSpec {
  name: string;
  opType: string;
  /** '' is ai.onnx. */
  domain: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Attributes;
}

export interface InitializerSpec {
  name: string;
  type: OnnxElementType;
  shape: readonly number[];
  /** Raw little-endian bytes, or undefined when the session gets the tensor from outside. */
  data: Uint8Array | undefined;
}

export interface ModelSpec {
  name: string;
  irVersion: number;
  opsets: Readonly<Record<string, number>>;
  nodes: readonly NodeSpec[];
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
  initializers: readonly InitializerSpec[];
}

const ATTRIBUTE_TYPE: Readonly<Record<Attribute['kind'], number>> = { float: 1, int: 2, string: 3, floats: 6, ints: 7 };
/** TensorProto.DataLocation EXTERNAL. */
const EXTERNAL = 1;

function message(writer: BinaryWriter, field: number, body: (writer: BinaryWriter) => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  body(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function varint(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

function writeAttribute(writer: BinaryWriter, name: string, attribute: Attribute): void {
  text(writer, 1, name); // name
  if (attribute.kind === 'float') writer.tag(2, WireType.Bit32).float(attribute.value); // f
  if (attribute.kind === 'int') varint(writer, 3, attribute.value); // i
  if (attribute.kind === 'string') text(writer, 4, attribute.value); // s
  if (attribute.kind === 'floats') for (const value of attribute.value) writer.tag(7, WireType.Bit32).float(value); // floats
  if (attribute.kind === 'ints') for (const value of attribute.value) varint(writer, 8, value); // ints
  varint(writer, 20, ATTRIBUTE_TYPE[attribute.kind]); // type
}

function writeNode(writer: BinaryWriter, node: NodeSpec): void {
  for (const input of node.inputs) text(writer, 1, input); // input
  for (const output of node.outputs) text(writer, 2, output); // output
  text(writer, 3, node.name); // name
  text(writer, 4, node.opType); // op_type
  for (const [name, attribute] of Object.entries(node.attributes)) message(writer, 5, (w) => writeAttribute(w, name, attribute));
  if (node.domain !== '') text(writer, 7, node.domain); // domain
}

function writeInitializer(writer: BinaryWriter, tensor: InitializerSpec): void {
  for (const dim of tensor.shape) varint(writer, 1, dim); // dims
  varint(writer, 2, ONNX_DATA_TYPE[tensor.type]); // data_type
  text(writer, 8, tensor.name); // name
  if (tensor.data !== undefined) {
    writer.tag(9, WireType.LengthDelimited).bytes(tensor.data); // raw_data
    return;
  }
  // external_data: only `location` is mandatory. No such file exists: the session replaces the tensor before it would be read.
  message(writer, 13, (w) => {
    text(w, 1, 'location');
    text(w, 2, 'given-to-the-session');
  });
  varint(writer, 14, EXTERNAL); // data_location
}

function writeValueInfo(writer: BinaryWriter, value: ValueInfo): void {
  text(writer, 1, value.name); // name
  message(writer, 2, (typeProto) =>
    message(typeProto, 1, (tensorType) => {
      varint(tensorType, 1, ONNX_DATA_TYPE[value.type]); // elem_type
      message(tensorType, 2, (shape) => {
        for (const dim of value.shape) {
          message(shape, 1, (w) => {
            if (typeof dim === 'number')
              varint(w, 1, dim); // dim_value
            else text(w, 2, dim); // dim_param
          });
        }
      });
    }),
  );
}

/** Bytes of a ModelProto that ONNX Runtime can load. */
export function serializeModel(model: ModelSpec): Uint8Array {
  const writer = new BinaryWriter();
  varint(writer, 1, model.irVersion); // ir_version
  text(writer, 2, 'causeway'); // producer_name
  message(writer, 7, (graph) => {
    for (const node of model.nodes) message(graph, 1, (w) => writeNode(w, node));
    text(graph, 2, model.name); // name
    for (const tensor of model.initializers) message(graph, 5, (w) => writeInitializer(w, tensor));
    for (const value of model.inputs) message(graph, 11, (w) => writeValueInfo(w, value));
    for (const value of model.outputs) message(graph, 12, (w) => writeValueInfo(w, value));
  });
  for (const [domain, version] of Object.entries(model.opsets)) {
    message(writer, 8, (w) => {
      text(w, 1, domain);
      varint(w, 2, version);
    });
  }
  return writer.finish();
}
