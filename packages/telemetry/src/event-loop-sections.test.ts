import { AsyncResource } from 'node:async_hooks';
import { sleep } from '@causeway/lifecycle';
import { expect, test } from 'vitest';
import { type Section, watchSections } from './event-loop-sections.ts';
import { exactThreadCpu } from './thread-cpu.ts';

const cpu = exactThreadCpu();
let sink = 0;

/** Computes on this thread for `ms` of CPU time. */
function burn(ms: number): void {
  const end = cpu() + ms;
  // Few calls of the clock: each leaves garbage.
  do for (let i = 0; i < 20_000; i++) sink += Math.sqrt(i);
  while (cpu() < end);
}

async function sectionsOf(work: () => Promise<void>): Promise<Section[]> {
  const seen: Section[] = [];
  using _watch = watchSections({ limitMs: 20, onLong: (section) => seen.push(section) });
  await sleep(1);
  await work();
  // A section ends when the loop makes its next callback; news of garbage collections are waited for.
  await sleep(1);
  await sleep(150);
  return seen;
}

test('a callback with the ticks and promises it leaves is one section', async () => {
  const seen = await sectionsOf(
    () =>
      new Promise<void>((resolve) => {
        setTimeout(() => {
          burn(10);
          process.nextTick(() => burn(10));
          queueMicrotask(() => new AsyncResource('inner').runInAsyncScope(() => burn(10)));
          void Promise.resolve()
            .then(() => burn(10))
            .then(resolve);
        }, 1);
      }),
  );
  expect(seen).toHaveLength(1);
  expect(seen[0]?.callback).toBe('Timeout');
  expect(seen[0]?.cpuMs).toBeGreaterThanOrEqual(40);
  expect(seen[0]?.cpuMs).toBeLessThan(80);
});

test('callbacks of one turn are sections each', async () => {
  const seen = await sectionsOf(async () => {
    await Promise.all(
      Array.from(
        { length: 10 },
        () =>
          new Promise<void>((resolve) => {
            setImmediate(() => {
              burn(5);
              resolve();
            });
          }),
      ),
    );
  });
  expect(seen).toEqual([]);
});

test('waiting is no section, working is one', async () => {
  expect(await sectionsOf(() => sleep(100))).toEqual([]);
  const seen = await sectionsOf(
    () =>
      new Promise<void>((resolve) => {
        setImmediate(() => {
          burn(30);
          resolve();
        });
      }),
  );
  expect(seen.map(({ callback }) => callback)).toEqual(['Immediate']);
  expect(seen[0]?.gcMs).toBeLessThan((seen[0]?.wallMs ?? 0) + 1);
});
