import { Runtime } from '@causeway/ort';
import { expect, it } from 'vitest';
import { loneRowsAlike } from './lone-rows.ts';

it('finds that products with f32 activations compute a lone row differently, which holds on every processor', async () => {
  await using runtime = Runtime.create({ threads: 2 });
  expect(await loneRowsAlike(runtime, 0)).toBe(false);
});

it('says the same whenever it is asked', async () => {
  await using runtime = Runtime.create({ threads: 2 });
  const first = await loneRowsAlike(runtime);
  expect(await loneRowsAlike(runtime)).toBe(first);
});
