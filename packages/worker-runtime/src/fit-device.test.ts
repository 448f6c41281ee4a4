import { fail } from '@causeway/errors';
import { describe, expect, it } from 'vitest';
import { fitDevice } from './fit-device.ts';

/** A device with so much room, and a thing that needs at least `least`. */
const device = (room: number, least: number) => async (bytes: number) => {
  if (bytes < least) fail('invalid_argument', 'bad_config', `${bytes} are too few`);
  if (bytes > room) fail('resource_exhausted', 'runtime', `no room for ${bytes}`);
  return `made of ${bytes}`;
};

describe('fitDevice', () => {
  it('takes the whole budget where there is room, and says nothing', async () => {
    expect(await fitDevice(100, device(100, 10))).toEqual({ made: 'made of 100', budgetBytes: 100 });
  });
  it('halves it until there is, and says why', async () => {
    const fitted = await fitDevice(100, device(30, 10));
    expect(fitted).toMatchObject({ made: 'made of 25', budgetBytes: 25 });
    expect(fitted.lessened).toBe('no room for 100; a KV budget of 25 bytes does');
  });
  it('gives up with what the device said at first, or with any other error at once', async () => {
    await expect(fitDevice(100, device(5, 10))).rejects.toThrow('no room for 100');
    await expect(fitDevice(8, device(5, 10))).rejects.toThrow('8 are too few');
    await expect(fitDevice(8, () => fail('internal', 'runtime', 'broken'))).rejects.toThrow('broken');
  });
});
