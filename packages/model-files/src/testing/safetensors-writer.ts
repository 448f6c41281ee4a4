/** Writes safetensors files for tests. */

/** A header entry as the file has it. */
export interface HeaderEntry {
  dtype: string;
  shape: readonly number[];
  data_offsets: readonly [number, number];
}

/** A file of the given header text (or value) and data. `length` lies about the header's length. */
export function rawSafetensors(header: unknown, data: Uint8Array, length?: bigint): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(text.length));
  return Buffer.concat([prefix, text, data]);
}

/** A file of f32 tensors, laid out one after the other; numbers count up from 0 in each. */
export function safetensorsBytes(shapes: Readonly<Record<string, readonly number[]>>): Buffer {
  const header: Record<string, HeaderEntry> = {};
  const data: Buffer[] = [];
  let end = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const count = shape.reduce((product, dim) => product * dim, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + 4 * count] };
    data.push(Buffer.from(Float32Array.from({ length: count }, (_, i) => i).buffer));
    end += 4 * count;
  }
  return rawSafetensors(header, Buffer.concat(data));
}
