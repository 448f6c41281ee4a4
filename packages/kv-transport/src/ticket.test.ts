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
