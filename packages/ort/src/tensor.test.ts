import fc from 'fast-check';
import { expect, test } from 'vitest';
import { diagnostics, ELEMENT_BYTES, type ElementType, NativeBuffer, Tensor } from './index.ts';

const types = Object.keys(ELEMENT_BYTES) as ElementType[];

test('has the bytes of its shape and type, scalars and empty shapes too', () => {
  using buffer = NativeBuffer.allocate(1024);
  for (const type of types) {
    using tensor = Tensor.of(buffer, 8, type, [2, 3, 5]);
    expect(tensor.byteLength).toBe(30 * ELEMENT_BYTES[type]);
  }
  using scalar = Tensor.of(buffer, 0, 'f32', []);
  using empty = Tensor.of(buffer, 1024, 'f32', [4, 0]);
  expect([scalar.byteLength, empty.byteLength]).toEqual([4, 0]);
});

test('a shape that is none, or does not fit, is refused and leaves nothing behind', () => {
  using buffer = NativeBuffer.allocate(1024);
  const before = diagnostics();
  const bad: [number, ElementType, number[]][] = [
    [0, 'f32', [257]],
    [1021, 'f32', [1]],
    [-4, 'f32', [1]],
    [0.5, 'f32', [1]],
    [Number.NaN, 'f32', [1]],
    [0, 'f32', [-1]],
    [0, 'f32', [1.5]],
    [0, 'f32', [2 ** 31, 2 ** 31]],
    [0, 'u8', [2 ** 53]],
    [0, 'u8', Array.from({ length: 33 }, () => 1)],
    [0, 'f64' as ElementType, [1]],
  ];
  for (const [offset, type, shape] of bad) {
    expect(() => Tensor.of(buffer, offset, type, shape), `${type} [${shape}] at ${offset}`).toThrow(
      expect.objectContaining({ name: 'ServiceError', reason: 'runtime' }),
    );
  }
  expect(diagnostics()).toEqual(before);
});

test('any offset, type and shape is either inside the buffer or a ServiceError', () => {
  using buffer = NativeBuffer.allocate(4096);
  const size = fc.oneof(fc.integer({ min: -2, max: 5000 }), fc.double(), fc.constant(2 ** 63));
  fc.assert(
    fc.property(size, fc.constantFrom(...types), fc.array(size, { maxLength: 4 }), (offset, type, shape) => {
      try {
        using tensor = Tensor.of(buffer, offset, type, shape);
        expect(tensor.offset + tensor.byteLength).toBeLessThanOrEqual(4096);
      } catch (error) {
        expect(error).toMatchObject({ name: 'ServiceError' });
      }
    }),
  );
});

test('keeps its memory mapped until it is disposed itself', () => {
  const before = diagnostics();
  const buffer = NativeBuffer.allocate(1024);
  const tensor = Tensor.of(buffer, 0, 'u8', [1024]);
  buffer[Symbol.dispose]();
  expect(diagnostics()).toEqual({
    ...before,
    buffers: before.buffers + 1,
    tensors: before.tensors + 1,
    mappedBytes: before.mappedBytes + 1024,
  });
  expect(() => Tensor.of(buffer, 0, 'u8', [1])).toThrow(/used after it was disposed/);
  tensor[Symbol.dispose]();
  tensor[Symbol.dispose]();
  expect(tensor.disposed).toBe(true);
  expect(() => tensor.retain()).toThrow(/a tensor was used after it was disposed/);
  expect(diagnostics()).toEqual(before);
});
