import { kvV1 } from '@causeway/proto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  decodeReceiverControl,
  decodeSenderControl,
  encodeReceiverControl,
  encodeSenderControl,
  MAX_CONTROL_BYTES,
} from './control.ts';
import { count } from './wire-types.ts';

const transferId = '00112233445566778899aabbccddeeff';

describe('control messages', () => {
  test('survive the wire', () => {
    const open = {
      transferId,
      epoch: 9,
      message: {
        $case: 'progress' as const,
        value: { offeredBytes: 5n, publishedBytes: 3n, wantMissing: true, finishedLayers: 2 },
      },
    };
    expect(decodeSenderControl(encodeSenderControl(open))).toEqual(open);
    const have = Uint8Array.of(1, 2, 3);
    const { message } = decodeReceiverControl(
      encodeReceiverControl({ transferId, epoch: 9, message: { $case: 'missing', value: { have, firstPart: 8 } } }),
    );
    expect(message).toEqual({ $case: 'missing', value: { have, firstPart: 8 } });
  });

  test('tell a first token 0 from none', () => {
    const manifest = (firstToken?: number) => ({
      $case: 'manifest' as const,
      value: {
        rawBytes: 1n,
        digest: new Uint8Array(32),
        parts: 1,
        sentBytes: 0n,
        ...(firstToken === undefined ? {} : { firstToken }),
      },
    });
    const read = (firstToken?: number) => {
      const { message } = decodeSenderControl(encodeSenderControl({ transferId, epoch: 1, message: manifest(firstToken) }));
      return message.$case === 'manifest' ? message.value.firstToken : expect.fail();
    };
    expect(read(0)).toBe(0);
    expect(read()).toBeUndefined();
  });

  test('that are random bytes, or cut, are refused with malformed_frame and nothing else', () => {
    const whole = encodeReceiverControl({
      transferId,
      epoch: 1,
      message: { $case: 'refused', value: { code: 'a', reason: 'b', message: 'c'.repeat(50) } },
    });
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc.nat(whole.length).map((length) => whole.slice(0, length)),
      fc
        .tuple(fc.nat(whole.length - 1), fc.nat(255))
        .map(([at, value]) => Uint8Array.from(whole, (byte, index) => (index === at ? value : byte))),
    );
    fc.assert(
      fc.property(bytes, fc.constantFrom(decodeSenderControl, decodeReceiverControl), (data, decode) => {
        try {
          expect(decode(data).transferId).toMatch(/^[0-9a-f]{32}$/);
        } catch (error) {
          expect(error).toMatchObject({ name: 'ServiceError', reason: 'malformed_frame' });
        }
      }),
      { numRuns: 500 },
    );
  });

  test('that are too long are not even parsed', () => {
    expect(() => decodeSenderControl(new Uint8Array(MAX_CONTROL_BYTES + 1))).toThrow(/262144 are the limit/);
    expect(() =>
      decodeSenderControl(
        kvV1.SenderControl.encode({
          transferId: new Uint8Array(3),
          epoch: 0,
          message: { $case: 'abort', value: { reason: '' } },
        }).finish(),
      ),
    ).toThrow(/16 bytes, not 3/);
  });

  test('may not say sizes that no number holds', () => {
    expect(() => count(2n ** 60n, 'raw_bytes')).toThrow(expect.objectContaining({ reason: 'malformed_frame' }));
    expect(count(2n ** 40n, 'raw_bytes')).toBe(2 ** 40);
  });
});
