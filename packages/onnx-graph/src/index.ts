export { float, floats, int, ints, string } from './attribute.ts';
export type { Attribute, Attributes } from './attribute.ts';
export { ONNX_ELEMENT_BYTES, ONNX_ELEMENT_TYPES } from './element-type.ts';
export type { OnnxElementType } from './element-type.ts';
export { GraphBuilder, IR_VERSION, OMITTED, OPSETS } from './graph-builder.ts';
export type { NodeOptions, Value } from './graph-builder.ts';
export type { Dim } from './model-proto.ts';
