/** What a session's inputs and outputs are called and look like. */
import { api } from './api.ts';
import { create, readCount, readString, check, pointerArray } from './native-call.ts';
import { type ElementType, elementType } from './tensor.ts';

/** One input or output of a session. */
export interface SessionValue {
  name: string;
  /** `other`: a type that no tensor here can have (a string, a sequence, ...). */
  type: ElementType | 'other';
  /** Sizes; a name where the graph leaves the size open, `?` where it does not even name it. Empty: scalar, or not known. */
  shape: readonly (number | string)[];
}

const READING = 'reading what a session takes and gives';

/** Inputs or outputs in the graph's order. @throws ServiceError `runtime`. */
export function sessionValues(session: bigint, side: 'Input' | 'Output'): SessionValue[] {
  const ort = api();
  const allocator = create(READING, (out) => ort.GetAllocatorWithDefaultOptions(out));
  const count = readCount(READING, (out) => ort[`SessionGet${side}Count`](session, out));
  return Array.from({ length: count }, (_, i) => {
    const text = create(READING, (out) => ort[`SessionGet${side}Name`](session, i, allocator, out));
    const name = readString(text);
    check(ort.AllocatorFree(allocator, text), READING);
    const info = create(READING, (out) => ort[`SessionGet${side}TypeInfo`](session, i, out));
    try {
      return { name, ...tensorInfo(info) };
    } finally {
      ort.ReleaseTypeInfo(info);
    }
  });
}

function tensorInfo(typeInfo: bigint): Omit<SessionValue, 'name'> {
  const ort = api();
  // Belongs to the type info; null when the value is no tensor.
  const info = create(READING, (out) => ort.CastTypeInfoToTensorInfo(typeInfo, out)) as bigint | null;
  if (info === null) return { type: 'other', shape: [] };
  const type = elementType(readCount(READING, (out) => ort.GetTensorElementType(info, out))) ?? 'other';
  const rank = readCount(READING, (out) => ort.GetDimensionsCount(info, out));
  if (rank === 0) return { type, shape: [] };
  const dims = new BigInt64Array(pointerArray(rank).buffer);
  check(ort.GetDimensions(info, dims, rank), READING);
  const names = pointerArray(rank);
  check(ort.GetSymbolicDimensions(info, names, rank), READING);
  return { type, shape: Array.from(dims, (dim, i) => (dim >= 0n ? Number(dim) : readString(names[i] as bigint) || '?')) };
}
