import { compareDescriptors, compareFingerprints, objectTable } from '@causeway/kv';
import { kvV1 } from '@causeway/proto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { frameSubject, parseControlSubject, senderControlSubject, subjectToken, transferOfFrameSubject } from './subjects.ts';
import { makeDescriptor, makeFingerprint } from './test-workers.ts';
import { ticketFromProto, ticketToProto } from './ticket.ts';
import type { Ticket } from './types.ts';

const descriptor = makeDescriptor(
  [
    { kind: 'full', kvHeads: 3, headDimK: 64, headDimV: 64 },
    { kind: 'latent', rank: 32, ropeDim: 8 },
  ],
  'bf16',
  16,
);
const ticket: Ticket = {
  transferId: '0123456789abcdef0123456789abcdef',
  epoch: 3,
  workerId: 'decode-0',
  incarnation: 'f00d',
  maxPayload: 1 << 20,
  maxPartBytes: 65_536,
  descriptor,
  fingerprint: makeFingerprint(descriptor),
  objects: [
    { kind: 'tokens', firstLayer: 0, layerCount: 2, firstToken: 0, tokenCount: 16 },
    { kind: 'tokens', firstLayer: 0, layerCount: 2, firstToken: 16, tokenCount: 5 },
  ],
  acceptedCodecs: ['none', 'zstd', 'planes+zstd'],
  acceptedDtypes: ['f32', 'f16', 'bf16', 'f8e4m3', 'int8', 'int4'],
  lossy: true,
  deadlineMs: 30_000,
  chip: 'cpu',
  tokens: 21,
};

describe('tickets', () => {
  test('survive the wire', () => {
    const bytes = kvV1.Ticket.encode(ticketToProto(ticket)).finish();
    expect(ticketFromProto(kvV1.Ticket.decode(bytes))).toEqual(ticket);
  });

  test.each<[string, Partial<kvV1.Ticket>, string]>([
    ['a short transfer id', { transferId: new Uint8Array(15) }, 'malformed_frame'],
    ['epoch 0', { epoch: 0 }, 'malformed_frame'],
    ['no descriptor', { descriptor: undefined }, 'descriptor_mismatch'],
    ['no fingerprint', { fingerprint: undefined }, 'fingerprint_mismatch'],
    ['no objects', { objects: [] }, 'malformed_frame'],
    ['an object of unknown kind', { objects: [{ kind: undefined }] }, 'malformed_frame'],
    ['no tokens', { tokens: 0 }, 'malformed_frame'],
    ['more tokens than objects hold', { tokens: 22 }, 'malformed_frame'],
    ['absurdly many tokens', { tokens: 0xffff_ffff }, 'malformed_frame'],
    ['a huge part', { maxPartBytes: 1 << 30 }, 'malformed_frame'],
    ['a tiny payload', { maxPayload: 10 }, 'malformed_frame'],
    ['no worker', { workerId: '' }, 'bad_config'],
  ])('with %s are refused', (_, change, reason) => {
    expect(() => ticketFromProto({ ...ticketToProto(ticket), ...change })).toThrow(expect.objectContaining({ reason }));
  });

  test('with a gap or an overlap between objects are refused', () => {
    const [first, second] = ticketToProto(ticket).objects as [kvV1.KvObject, kvV1.KvObject];
    expect(() => ticketFromProto({ ...ticketToProto(ticket), objects: [second] })).toThrow(/begins at token 16, not 0/);
    expect(() => ticketFromProto({ ...ticketToProto(ticket), objects: [first, first] })).toThrow(/begins at token 0, not 16/);
  });
});

describe('tickets for a model with windows, entries and states', () => {
  const hybrid = makeDescriptor(
    [
      {
        kind: 'latent',
        rank: 32,
        ropeDim: 8,
        window: 8,
        entries: [{ name: 'kv', ratio: 4, width: 40 }],
        states: [{ name: 'pending', dtype: 'f32', shape: [8, 80] }],
      },
      { kind: 'none', states: [{ name: 'S', dtype: 'f32', shape: [2, 16, 16] }] },
      { kind: 'full', kvHeads: 1, headDimK: 64, headDimV: 64 },
    ],
    'bf16',
    16,
  );
  const made: Ticket = {
    ...ticket,
    descriptor: hybrid,
    fingerprint: makeFingerprint(hybrid),
    objects: objectTable(hybrid, 21, 1 << 18),
  };
  const message = ticketToProto(made);
  const indexOf = (kind: string): number => message.objects.findIndex((object) => object.kind?.$case === kind);
  const tokens = (change: Partial<kvV1.TokensObject>): kvV1.KvObject['kind'] => ({
    $case: 'tokens',
    value: { firstLayer: 0, layerCount: 3, firstToken: 0, tokenCount: 21, ...change },
  });
  const entries = (change: Partial<kvV1.EntriesObject>): kvV1.KvObject['kind'] => ({
    $case: 'entries',
    value: { layer: 0, ratio: 4, firstEntry: 0, entryCount: 5, ...change },
  });
  const window = (change: Partial<kvV1.WindowObject>): kvV1.KvObject['kind'] => ({
    $case: 'window',
    value: { layer: 0, firstToken: 13, tokenCount: 8, ...change },
  });
  const state = (change: Partial<kvV1.StateObject>): kvV1.KvObject['kind'] => ({
    $case: 'state',
    value: { layer: 0, name: 'pending', shape: [8, 80], ...change },
  });

  test('survive the wire', () => {
    expect(made.objects.map(({ kind }) => kind)).toEqual(['tokens', 'entries', 'window', 'state', 'state']);
    const bytes = kvV1.Ticket.encode(message).finish();
    expect(ticketFromProto(kvV1.Ticket.decode(bytes))).toEqual(made);
  });

  test.each<[string, kvV1.KvObject['kind'], RegExp]>([
    ['tokens of layers that there are not', tokens({ firstLayer: 2, layerCount: 2 }), /layers 2\.\.4 of a model with 3/],
    ['tokens of 2^32 layers', tokens({ layerCount: 0xffff_ffff }), /layerCount is 4294967295/],
    ['too many tokens', tokens({ tokenCount: 0x7fff_ffff }), /layers 0\.\.3 end at token 2147483647, not 21/],
    ['other tokens', tokens({ tokenCount: 20 }), /end at token 20, not 21/],
    ['entries of ratio 0', entries({ ratio: 0 }), /ratio 0/],
    ['entries of a ratio that there is not', entries({ ratio: 16 }), /no entries of ratio 16/],
    ['entries of a layer that there is not', entries({ layer: 3 }), /layer 3 of a model with 3/],
    ['entries that overflow', entries({ entryCount: 0xffff_ffff }), /entryCount is 4294967295/],
    ['entries that no token has completed', entries({ entryCount: 6 }), /6 entries of layer 0, ratio 4; 21 tokens make 5/],
    ['entries from the middle on', entries({ firstEntry: 1, entryCount: 4 }), /begins at entry 1/],
    ['a window of a layer without', window({ layer: 2 }), /layer 2 has no window/],
    ['a window wider than the layer has it', window({ firstToken: 12, tokenCount: 9 }), /9 tokens of a window of 8/],
    ['a window of other tokens', window({ firstToken: 12 }), /a window of tokens 12\.\.20, not 13\.\.21/],
    ['a state that there is not', state({ name: 'S' }), /layer 0 has no state "S"/],
    ['a state of a layer that there is not', state({ layer: 0x8000_0000 }), /layer 2147483648 of a model with 3/],
    ['a state of another shape', state({ shape: [80, 8] }), /shape \[80, 8\] where the descriptor says \[8, 80\]/],
    ['a state without a shape', state({ shape: [] }), /shape \[\] where/],
    ['a state whose product overflows', state({ shape: Array<number>(8).fill(0x8000_0000) }), /where the descriptor says/],
    ['a state of a million dimensions', state({ shape: Array<number>(1 << 20).fill(1) }), /1048576 dimensions; 8 are the limit/],
    ['a state with a long name', state({ name: 'x'.repeat(1 << 20) }), /a name of 1048576 characters; 64 are the limit/],
    ['a second state of one name', { ...state({ layer: 1, name: 'S', shape: [2, 16, 16] }) } as never, /a second time/],
    ['nothing', undefined, /object \d is of unknown kind; this process understands tokens, entries, window and state/],
  ])('with %s are refused', (_, kind, error) => {
    const index = kind === undefined ? 0 : indexOf(kind.$case);
    const objects = message.objects.map((object, i) => (i === index ? { kind } : object));
    const bytes = kvV1.Ticket.encode({ ...message, objects }).finish();
    const read = () => ticketFromProto(kvV1.Ticket.decode(bytes));
    expect(read).toThrow(expect.objectContaining({ reason: 'malformed_frame', code: 'invalid_argument' }));
    expect(read).toThrow(error);
  });

  test('with an object of a later kind are refused, not misread', () => {
    // Field 15 of KvObject, which this version does not have.
    const later = kvV1.KvObject.decode(Uint8Array.of(0x7a, 0x02, 0x08, 0x01));
    const objects = [later, ...message.objects.slice(1)];
    expect(() => ticketFromProto({ ...message, objects })).toThrow(/object 0 is of unknown kind/);
  });

  test('have fingerprints and descriptors of their own', () => {
    const [first, ...rest] = hybrid.layers as [(typeof hybrid.layers)[number], ...typeof hybrid.layers];
    const variants = [
      { ...first, window: 9 },
      { ...first, window: undefined },
      { ...first, entries: [{ name: 'kv', ratio: 8, width: 40 }] },
      { ...first, entries: [{ name: 'index', ratio: 4, width: 40 }] },
      { ...first, states: [{ name: 'pending', dtype: 'bf16' as const, shape: [8, 80] }] },
      { ...first, states: [{ name: 'pending', dtype: 'f32' as const, shape: [80, 8] }] },
    ];
    for (const layer of variants) {
      const other = { ...hybrid, layers: [layer, ...rest] };
      expect(() => compareFingerprints(makeFingerprint(hybrid), makeFingerprint(other))).toThrow(/geometry \(/);
      expect(() => compareDescriptors(hybrid, other)).toThrow(/layers\[0\]\.(window|entries|states)/);
    }
  });
});

test('subjects keep hostile worker names inside one token', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 10, unit: 'binary' }), (name) => {
      expect(subjectToken(name)).toMatch(/^[A-Za-z0-9_=-]+$/);
      const of = { workerId: name, incarnation: '1' };
      expect(frameSubject(of, 'abc').split('.')).toHaveLength(6);
      expect(transferOfFrameSubject(frameSubject(of, 'abc'))).toBe('abc');
      expect(parseControlSubject(senderControlSubject(of, 'abc'))).toEqual({ transferId: 'abc', role: 'tx' });
    }),
  );
  expect(subjectToken('a.b>*')).toBe('a=2Eb=3E=2A');
  expect(() => subjectToken('x'.repeat(129))).toThrow(/129/);
});
