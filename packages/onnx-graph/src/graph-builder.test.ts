import { BinaryReader, type WireType } from '@bufbuild/protobuf/wire';
import { ServiceError } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { float, floats, int, ints, string } from './attribute.ts';
import { GraphBuilder, OMITTED } from './graph-builder.ts';

type Field = { number: number; value: bigint | number | Uint8Array };

/** Fields of one protobuf message, read without knowing its schema. */
function fields(bytes: Uint8Array): Field[] {
  const reader = new BinaryReader(bytes);
  const found: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const read: Partial<Record<WireType, () => bigint | number | Uint8Array>> = {
      0: () => BigInt(reader.int64()),
      2: () => reader.bytes(),
      5: () => reader.float(),
    };
    const value = read[wireType]?.();
    if (value === undefined) throw new Error(`unexpected wire type ${wireType}`);
    found.push({ number, value });
  }
  return found;
}

const all = (bytes: Uint8Array, number: number): Field['value'][] =>
  fields(bytes).flatMap((field) => (field.number === number ? [field.value] : []));
const texts = (bytes: Uint8Array, number: number): string[] =>
  all(bytes, number).map((value) => new TextDecoder().decode(value as Uint8Array));
const nested = (bytes: Uint8Array, ...path: number[]): Uint8Array =>
  path.reduce((inner, number) => all(inner, number)[0] as Uint8Array, bytes);

function refusal(action: () => unknown): ServiceError {
  try {
    action();
  } catch (error) {
    if (error instanceof ServiceError) return error;
  }
  throw new Error('nothing was refused');
}

describe('GraphBuilder', () => {
  it('writes the bytes of onnx.proto3 for a one-node model', () => {
    const graph = new GraphBuilder('g');
    const x = graph.input('x', 'f32', ['N', 2]);
    graph.output(graph.rename(x, 'y'), 'f32', ['N', 2]);
    const hex = Buffer.from(graph.serialize()).toString('hex');
    const value = (name: string) => `0a01${name} 120f 0a0d 0801 1209 0a0312014e 0a020802`.replaceAll(' ', '');
    expect(hex).toBe(
      [
        '080a', // ir_version 10
        `1208${Buffer.from('causeway').toString('hex')}`, // producer_name
        '3a4d', // graph, 77 bytes
        '0a1c', // node: input x, output y, name Identity_0, op_type Identity
        `0a0178 120179 1a0a${Buffer.from('Identity_0').toString('hex')} 2208${Buffer.from('Identity').toString('hex')}`,
        '120167', // name g
        `5a14 ${value('78')}`,
        `6214 ${value('79')}`,
        '4204 0a00 1017', // opset '' 23
        `4211 0a0d${Buffer.from('com.microsoft').toString('hex')} 1001`,
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });

  it('writes every kind of attribute with its type', () => {
    const graph = new GraphBuilder('g');
    const x = graph.input('x', 'f32', [1]);
    graph.contrib('Op', [x], { i: int(-3), f: float(0.5), s: string('add'), is: ints(1, -2), fs: floats(0.25) });
    const node = nested(graph.serialize(), 7, 1);
    expect(texts(node, 7)).toEqual(['com.microsoft']);
    const attributes = all(node, 5).map((value) => value as Uint8Array);
    expect(attributes.map((attribute) => [texts(attribute, 1)[0], all(attribute, 20)[0]])).toEqual([
      ['i', 2n],
      ['f', 1n],
      ['s', 3n],
      ['is', 7n],
      ['fs', 6n],
    ]);
    expect(
      attributes.flatMap((attribute) => [...all(attribute, 3), ...all(attribute, 2), ...all(attribute, 8), ...all(attribute, 7)]),
    ).toEqual([-3n, 0.5, 1n, -2n, 0.25]);
  });

  it('keeps small constants inside and marks external weights', () => {
    const graph = new GraphBuilder('g');
    graph.constant('c', 'i64', [2], BigInt64Array.of(1n, -1n));
    graph.external('w', 'u8', [4, 2]);
    const initializers = all(nested(graph.serialize(), 7), 5).map((value) => value as Uint8Array);
    const [constant, external] = initializers as [Uint8Array, Uint8Array];
    expect([all(constant, 1), all(constant, 2), all(constant, 9)]).toEqual([
      [2n],
      [7n],
      [new Uint8Array(BigInt64Array.of(1n, -1n).buffer)],
    ]);
    expect([all(external, 1), all(external, 2), all(external, 9), all(external, 14)]).toEqual([[4n, 2n], [2n], [], [1n]]);
    expect(texts(nested(external, 13), 1)).toEqual(['location']);
  });

  it('shares equal small constants', () => {
    const graph = new GraphBuilder('g');
    expect(graph.int64s(1, 2)).toBe(graph.int64s(1, 2));
    expect(graph.int64s(1, 2)).not.toBe(graph.int64s(2, 1));
    expect(graph.scalar(0.5)).toBe(graph.scalar(0.5));
    expect(all(nested(graph.serialize(), 7), 5)).toHaveLength(3);
  });

  it('names several outputs and leaves out those not wanted', () => {
    const graph = new GraphBuilder('g');
    const x = graph.input('x', 'f32', [1]);
    const [first, second] = graph.node('Split', [x], { outputs: 2 });
    expect(first).not.toBe(second);
    expect(graph.node('Skip', [x, OMITTED], { outputs: ['a', OMITTED, 'b'] })).toEqual(['a', '', 'b']);
    expect(texts(all(nested(graph.serialize(), 7), 1)[1] as Uint8Array, 2)).toEqual(['a', '', 'b']);
  });

  it('refuses a value that nothing defines, and one that is defined twice', () => {
    const graph = new GraphBuilder('broken');
    graph.input('x', 'f32', [1]);
    expect(refusal(() => graph.op('Add', ['x', 'y'])).message).toContain('Add reads y, which nothing defines');
    expect(refusal(() => graph.output('z', 'f32', [1])).message).toContain('z');
    expect(refusal(() => graph.input('x', 'f32', [1])).message).toContain('x is defined twice');
    expect(refusal(() => graph.input('', 'f32', [1])).message).toContain('needs a name');
  });

  it('refuses a constant whose data do not fill its shape', () => {
    const graph = new GraphBuilder('g');
    expect(refusal(() => graph.constant('c', 'f32', [3], new Float32Array(2))).message).toContain('8 bytes for a shape of 12');
  });
});
