/** `causeway experts` and `experts rebalance` on a cluster that answers meanwhile. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CommandFolder, FIRST_LINE } from './command-folder.ts';

const TOPOLOGY = fileURLToPath(new URL('../../topologies/experts.yaml', import.meta.url));

let at: CommandFolder;
beforeAll(() => {
  at = new CommandFolder();
});
afterAll(() => at[Symbol.asyncDispose]());

async function ask(http: string): Promise<{ text: string; calls: Record<string, number> }> {
  const response = await fetch(`${http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny-moe',
      temperature: 0,
      messages: [{ role: 'user', content: 'What is the capital of France?' }],
    }),
  });
  expect(response.status).toBe(200);
  const body = (await response.json()) as {
    choices: [{ message: { content: string } }];
    usage: { prompt_tokens: number; completion_tokens: number; causeway: { expert_calls: Record<string, number> } };
  };
  return { text: body.choices[0].message.content, calls: body.usage.causeway.expert_calls };
}

test('experts are shown, and placed anew under load without a failed request', async () => {
  const up = at.start(['up', '--topology', TOPOLOGY]);
  await up.waitForLine(FIRST_LINE, 180_000);
  await up.waitForLine(/^ready {2}HTTP/, 10_000);
  const { http } = await at.status();
  const { calls } = await ask(http);
  expect(Object.keys(calls).sort()).toEqual(['expert-0', 'expert-1']);

  const shown = await at.run(['experts']);
  expect(shown.code).toBe(0);
  expect(shown.output).toMatch(/tiny-moe, expert placement 1/);
  for (const layer of [1, 2, 3, 4]) expect(shown.output).toMatch(new RegExp(`^ +${layer} {2}[·░▒▓█]{16} {3}max/mean`, 'm'));
  expect(shown.output).toMatch(/expert-0 +ready +\d+ +[\d.]+ %/);

  const dry = await at.run(['experts', 'rebalance', '--copies', '2', '--dry-run']);
  expect(dry).toMatchObject({ code: 0 });
  expect(dry.output).toMatch(/busiest shard over the mean: [\d.]+ now, 1\.00 after/);
  expect(dry.output).toMatch(/nothing was changed/);

  let going = true;
  const asking = (async () => {
    let answers = 0;
    for (; going; answers++) expect((await ask(http)).text).toMatch(/Paris/);
    return answers;
  })();
  const done = await at.run(['experts', 'rebalance', '--copies', '2']);
  going = false;
  expect(await asking).toBeGreaterThan(0);
  expect(done.output).toMatch(/placement 2 is in force after [\d.]+ s/);
  expect(done.code).toBe(0);
  const json = JSON.parse((await at.run(['experts', '--json'])).output) as {
    placement: { epoch: number; layers: Record<string, number[][]> };
  };
  expect(json.placement.epoch).toBe(2);
  expect(
    Object.values(json.placement.layers)
      .flat()
      .every((homes) => homes.length === 2),
  ).toBe(true);
  expect((await ask(http)).text).toMatch(/Paris/);
}, 300_000);
