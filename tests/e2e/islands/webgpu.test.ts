/**
 * Prefill on chip family `webgpu`, decode on `cpu`, and the other way round, over real processes and servers. The device is a GPU, or
 * SwiftShader on the CPU: there a token of SmolLM2 takes some ten seconds of a core, which is why that model needs CAUSEWAY_TEST_FULL=1 and a short prompt.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { testVulkan, withoutVulkan } from '@causeway/testkit';
import { describe, expect, it, vi } from 'vitest';
import {
  distance,
  chosen,
  engineAlone,
  answerAlone,
  ids,
  MODEL,
  SMOLLM2,
  startTestCluster,
  TINY_MOE,
} from '../evidence/harness.ts';

const LLAMA = fileURLToPath(new URL('../../../../shared/goldens/llama', import.meta.url));
const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';

const folder = testVulkan();
/** A busy machine of two cores needs it for SmolLM2. */
const SLOW_MS = 1_200_000;
const EXACT = {
  CAUSEWAY_PRECISION: 'exact',
  CAUSEWAY_MAX_CONTEXT: '256',
  CAUSEWAY_MAX_SEQUENCES: '2',
  CAUSEWAY_TICKET_DEADLINE_MS: String(SLOW_MS),
};
const CPU = { CAUSEWAY_CHIP: 'cpu' };
const WEBGPU = { CAUSEWAY_CHIP: 'webgpu', ...(folder === undefined ? {} : { CAUSEWAY_VULKAN_DIR: folder }) };
const CHIPS: Record<string, Record<string, string>> = { cpu: CPU, webgpu: WEBGPU };

vi.setConfig({ testTimeout: SLOW_MS });

/** Logits of the two chips, which sum in other orders. */
const LARGEST_DISTANCE = 2e-3;

interface Golden {
  prompt: number[];
  greedy: number[];
}

/** Reference prompts of more than one token, shortest first, in either form of golden.json. */
async function goldens(model: string): Promise<Golden[]> {
  const { cases } = JSON.parse(await readFile(`${model}/golden.json`, 'utf8')) as {
    cases: { prompt?: number[]; prompt_ids?: number[]; greedy?: number[]; greedy_ids?: number[] }[];
  };
  return cases
    .map((c) => ({ prompt: c.prompt ?? c.prompt_ids ?? [], greedy: c.greedy ?? c.greedy_ids ?? [] }))
    .filter(({ prompt }) => prompt.length > 1)
    .sort((a, b) => a.prompt.length - b.prompt.length);
}

interface Way {
  from: string;
  to: string;
  /** Needs CAUSEWAY_TEST_FULL=1. */
  full: boolean;
}

const ways = (toCpu: 'always' | 'full', fromCpu: 'always' | 'full'): Way[] => [
  { from: 'webgpu', to: 'cpu', full: toCpu === 'full' },
  { from: 'cpu', to: 'webgpu', full: fromCpu === 'full' },
];
const models: { name: string; path: string; ways: Way[]; count: number; tokens: number; cut?: number }[] = [
  { name: 'llama', path: LLAMA, ways: ways('always', 'always'), count: 3, tokens: 8 },
  { name: 'tiny-moe', path: TINY_MOE, ways: ways('always', 'full'), count: 1, tokens: 6 },
  { name: 'SmolLM2', path: SMOLLM2, ways: ways('full', 'full'), count: 1, tokens: 3, cut: 8 },
];

describe.skipIf(withoutVulkan)('webgpu (needs Vulkan)', () => {
  for (const { name, path, ways, count, tokens, cut } of models) {
    for (const { from, to, full } of ways) {
      it.skipIf(!existsSync(path) || (full && !FULL))(
        `${name}: ${from} to ${to} gives the tokens of ${cut === undefined ? 'the goldens' : 'cpu alone'}`,
        async () => {
          await using alone = await engineAlone(path, { ...EXACT, ...CPU });
          const cases = (await goldens(path)).slice(0, count);
          const env = { 'prefill-1': CHIPS[from] ?? {}, 'decode-1': CHIPS[to] ?? {} };
          await using there = await startTestCluster({
            model: path,
            router: name === 'tiny-moe',
            readyMs: SLOW_MS,
            workerEnv: EXACT,
            env,
          });
          for (const { prompt, greedy } of cases) {
            const promptIds = prompt.slice(0, cut);
            const generation = { promptIds, maxTokens: Math.min(tokens, greedy.length), ignoreEos: true, returnLogits: true };
            const result = await there.attempt(generation);
            const reference = await answerAlone(alone, generation);
            const what = `${promptIds.length} tokens`;
            expect(ids(result.tokens), what).toEqual(cut === undefined ? greedy.slice(0, tokens) : reference.map(({ id }) => id));
            expect(result.kv, what).toMatchObject({
              outcome: 1,
              prefilledTokens: 0,
              representation: { lossless: true, wire: 'f32' },
            });
            const distances = chosen(result).map((token, i) => distance(token, reference[i]!));
            expect(Math.max(...distances), what).toBeLessThan(LARGEST_DISTANCE);
          }
          // The reference checkpoint has no tokenizer, which a router wants.
          if (name !== 'tiny-moe') return;
          const answer = await fetch(`http://${there.router.http}/v1/completions`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({
              model: MODEL,
              prompt: cases[0]?.prompt,
              max_tokens: 2,
              temperature: 0,
              causeway: { placement: 'disaggregated' },
            }),
          });
          expect(answer.status).toBe(200);
          const { usage } = (await answer.json()) as { usage: { causeway: Record<string, unknown> } };
          expect(usage.causeway).toMatchObject({ prefill_chip: from, decode_chip: to, outcome: 'used' });
        },
      );
    }
  }

  it('without a driver a worker ends at start and says what to install', async () => {
    const env = { ...EXACT, CAUSEWAY_CHIP: 'webgpu', CAUSEWAY_VULKAN_DIR: '/nowhere' };
    await expect(engineAlone(TINY_MOE, env)).rejects.toMatchObject({
      reason: 'provider_missing',
      message: expect.stringMatching(/\/nowhere has no libvulkan\.so\.1 with an \*_icd\.json beside it/) as string,
    });
  });
});
