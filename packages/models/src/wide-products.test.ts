import { Runtime } from '@causeway/ort';
import { expect, it } from 'vitest';
import { wideProducts } from './wide-products.ts';

it('says the same whenever it is asked, with one thread and with two', async () => {
  const said = new Set<string>();
  for (const threads of [2, 1, 2]) {
    await using runtime = Runtime.create({ threads });
    said.add(await wideProducts(runtime));
    said.add(await wideProducts(runtime));
  }
  expect(said.size).toBe(1);
});
