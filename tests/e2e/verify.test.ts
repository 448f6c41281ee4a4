/** `./causeway verify` as a user meets it: every reference at hand, in the engine alone and through prefill -> NATS -> decode processes. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CommandFolder } from './command-folder.ts';

// On a busy machine the long ones take minutes.
vi.setConfig({ testTimeout: 360_000 });

const ROOT = resolve(import.meta.dirname, '../..');
const TINY_MOE = join(ROOT, 'models/tiny-moe');
const shared = (path: string): string => resolve(ROOT, '../shared', path);
const SMOLLM2 = shared('models/smollm2-135m-instruct');

interface Report {
  backend: string;
  form: string;
  precision: string;
  positions: number;
  cases: { name: string; ok: boolean; promptIdsEqual?: boolean }[];
  largestLogitError?: number;
  largestLogprobError?: number;
  tolerance: number;
  greedyAgreed: number;
  greedyTotal: number;
  ok: boolean;
}

let at: CommandFolder;

beforeEach(() => {
  at = new CommandFolder();
});

afterEach(() => at[Symbol.asyncDispose]());

async function verify(args: readonly string[]): Promise<{ code: number | null; report: Report }> {
  const { code, output } = await at.run(['verify', ...args, '--json']);
  const json = output.split('\n').find((line) => line.startsWith('{"backend"'));
  if (json === undefined) throw new Error(`no report (exit code ${code}): ${output}`);
  return { code, report: JSON.parse(json) as Report };
}

const WAYS = [
  ['in the engine alone', [], 'engine alone'],
  ['through two processes', ['--cluster'], 'prefill -> NATS -> decode'],
] as const;

describe.each(WAYS)('verify %s', (_way, flags, backend) => {
  test.skipIf(!existsSync(shared('goldens'))).each([
    ['llama', 6],
    ['deepseek_v3', 6],
  ])('accepts golden %s: logits within 2e-3 at every position compared', async (name, cases) => {
    const { code, report } = await verify([shared(`goldens/${name}`), ...flags]);
    expect(report).toMatchObject({ backend, form: 'logits', tolerance: 2e-3, ok: true });
    expect(report.cases).toHaveLength(cases + 1);
    expect(report.positions).toBe(flags.length === 0 ? 320 : 18);
    expect(report.largestLogitError).toBeGreaterThan(0);
    expect(report.largestLogitError).toBeLessThan(2e-3);
    expect(report.largestLogprobError).toBeUndefined();
    expect(code).toBe(0);
  });

  test('accepts tiny-moe, by the name of its folder', async () => {
    const { code, report } = await verify(['tiny-moe', ...flags]);
    expect(report).toMatchObject({ backend, form: 'messages', precision: 'exact', tolerance: 5e-4, ok: true });
    expect(report.cases).toHaveLength(13);
    expect(report.greedyAgreed).toBe(report.greedyTotal);
    expect(report.largestLogprobError).toBeLessThan(5e-4);
    expect(code).toBe(0);
  });

  test.skipIf(!existsSync(SMOLLM2)).each([
    ['exact', 5e-4],
    ['fast', 1.5],
  ])('accepts SmolLM2 (GGUF Q4_1), %s', async (precision, tolerance) => {
    const { code, report } = await verify([SMOLLM2, '--precision', precision, ...flags]);
    expect(report).toMatchObject({ backend, form: 'messages', precision, tolerance, ok: true });
    expect(report.cases).toHaveLength(9);
    expect(report.cases.every((item) => item.promptIdsEqual)).toBe(true);
    expect(report.largestLogprobError).toBeGreaterThan(precision === 'fast' ? 0.01 : 0);
    expect(report.largestLogprobError).toBeLessThan(tolerance);
    if (precision === 'exact') expect(report.greedyAgreed).toBe(report.greedyTotal);
    expect(code).toBe(0);
  });
});

/** A checkpoint whose reference is another; without `change` it has none. */
function altered(checkpoint: string, change?: (golden: Golden) => unknown): string {
  const folder = join(at.path, 'checkpoint');
  mkdirSync(folder);
  for (const name of readdirSync(checkpoint)) {
    if (!name.startsWith('golden.')) symlinkSync(join(checkpoint, name), join(folder, name));
  }
  if (change === undefined) return folder;
  const golden = JSON.parse(readFileSync(join(checkpoint, 'golden.json'), 'utf8')) as Golden;
  golden.cases.splice(2);
  const changed = change(golden);
  writeFileSync(join(folder, 'golden.json'), typeof changed === 'string' ? changed : JSON.stringify(golden));
  return folder;
}

interface Golden {
  cases: {
    prompt_ids: number[];
    greedy_ids: number[];
    top5: [number, number][][];
    last_logits: number[];
    greedy: number[];
  }[];
}

/** The case that is altered. */
const first = (golden: Golden): Golden['cases'][number] => golden.cases[0]!;

describe('a reference that differs', () => {
  test('in nothing is accepted', async () => {
    const { code, report } = await verify([altered(TINY_MOE, () => undefined)]);
    expect(report).toMatchObject({ ok: true, cases: [{ ok: true }, { ok: true }] });
    expect(code).toBe(0);
  });

  test.each<[string, (golden: Golden) => void, object]>([
    ['a token of its answer', (golden) => (first(golden).greedy_ids[3] = 5), { greedy: { agreed: 3 } }],
    ['a log-probability, by 0.002', (golden) => (first(golden).top5[2]![1]![1] += 0.002), { greedy: { ok: true } }],
    ['a token of its prompt', (golden) => (first(golden).prompt_ids[1]! += 1), { promptIdsEqual: false }],
  ])('in %s is not accepted: exit code 1', async (_what, change, shown) => {
    const { code, report } = await verify([altered(TINY_MOE, change)]);
    expect(report).toMatchObject({ ok: false, cases: [{ ok: false, ...shown }, { ok: true }] });
    expect(code).toBe(1);
  });

  test('is not accepted through two processes either, and said in words', async () => {
    const { code, output } = await at.run([
      'verify',
      altered(TINY_MOE, (golden) => (first(golden).greedy_ids[3] = 5)),
      '--cluster',
    ]);
    expect(output).toMatch(/1\/2 {2}FAIL {2}case 1, .*greedy 3\/8 \(must: 8\)/);
    expect(output).toMatch(
      /^NOT verified: prefill -> NATS -> decode, exact; largest log-probability distance .* \(at most 5\.00e-4\)/m,
    );
    expect(code).toBe(1);
  });

  test.skipIf(!existsSync(shared('goldens')))('in a logit, by 0.01, is not accepted', async () => {
    const { code, report } = await verify([
      altered(shared('goldens/llama'), (golden) => (first(golden).last_logits[7]! += 0.01)),
    ]);
    expect(report).toMatchObject({ ok: false, positions: 0, cases: [{ ok: false, greedy: { ok: true } }, { ok: true }] });
    expect(report.largestLogitError).toBeCloseTo(0.01, 3);
    expect(code).toBe(1);
  });
});

describe('what cannot be compared is refused with a reason and no stack', () => {
  test.each<[string, () => string[], number, RegExp]>([
    [
      'no such folder',
      () => ['no-such-model'],
      1,
      /there is no checkpoint "no-such-model": neither a folder in models\/ nor a path/,
    ],
    [
      'no reference',
      () => [altered(TINY_MOE)],
      1,
      /golden\.json does not exist: verify needs reference outputs beside the checkpoint/,
    ],
    ['a reference that is not JSON', () => [altered(TINY_MOE, () => '{"cases": [')], 1, /golden\.json is not JSON/],
    ['a reference of neither form', () => [altered(TINY_MOE, () => '{"cases": [{}]}')], 1, /has neither form of reference/],
    ['a reference without a checkpoint', () => [alone()], 1, /config\.json/],
    ['an unknown precision', () => ['tiny-moe', '--precision', 'rough'], 2, /must be exact or fast/],
    ['no folder named', () => [], 2, /missing required argument 'dir'/],
  ])('%s', async (_what, args, code, expected) => {
    const result = await at.run(['verify', ...args(), '--json']);
    expect(result.output).toMatch(expected);
    expect(result.output).not.toMatch(/\n {4}at |"backend"/);
    expect(result.code).toBe(code);
  });
});

/** A folder with a reference and nothing else. */
function alone(): string {
  const folder = join(at.path, 'alone');
  mkdirSync(folder);
  symlinkSync(join(TINY_MOE, 'golden.json'), join(folder, 'golden.json'));
  return folder;
}
