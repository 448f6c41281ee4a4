/** A node attribute; ONNX tells integers from floats, JavaScript does not, hence the tag. */
export type Attribute =
  | { kind: 'int'; value: number }
  | { kind: 'float'; value: number }
  | { kind: 'string'; value: string }
  | { kind: 'ints'; value: readonly number[] }
  | { kind: 'floats'; value: readonly number[] };

export type Attributes = Readonly<Record<string, Attribute>>;

/** An INT attribute. */
export const int = (value: number): Attribute => ({ kind: 'int', value });
/** A FLOAT attribute (stored as f32). */
export const float = (value: number): Attribute => ({ kind: 'float', value });
/** A STRING attribute. */
export const string = (value: string): Attribute => ({ kind: 'string', value });
/** An INTS attribute. */
export const ints = (...value: number[]): Attribute => ({ kind: 'ints', value });
/** A FLOATS attribute. */
export const floats = (...value: number[]): Attribute => ({ kind: 'floats', value });
