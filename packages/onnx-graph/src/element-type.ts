/** Element types of graph values, by the short names used everywhere in Causeway. */
export const ONNX_ELEMENT_TYPES = ['f32', 'u8', 'i8', 'i32', 'i64', 'bool', 'f16', 'bf16'] as const;
export type OnnxElementType = (typeof ONNX_ELEMENT_TYPES)[number];

/** TensorProto.DataType numbers (onnx.proto3). */
export const ONNX_DATA_TYPE: Readonly<Record<OnnxElementType, number>> = {
  f32: 1,
  u8: 2,
  i8: 3,
  i32: 6,
  i64: 7,
  bool: 9,
  f16: 10,
  bf16: 16,
};

/** Bytes of one element. */
export const ONNX_ELEMENT_BYTES: Readonly<Record<OnnxElementType, number>> = {
  f32: 4,
  u8: 1,
  i8: 1,
  i32: 4,
  i64: 8,
  bool: 1,
  f16: 2,
  bf16: 2,
};
