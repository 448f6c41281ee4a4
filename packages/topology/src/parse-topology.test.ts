import { readFileSync } from 'node:fs';
import { ServiceError } from '@causeway/errors';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultTopology, parseTopology } from './index.ts';

function problemsOf(text: string): string {
  try {
    parseTopology(text, 'cluster.yaml');
  } catch (error) {
    expect(error).toBeInstanceOf(ServiceError);
    expect((error as ServiceError).reason).toBe('bad_config');
    return (error as ServiceError).message;
  }
  throw new Error('the topology was accepted');
}

describe('a topology file', () => {
  test('the documented example is valid and gives bytes and milliseconds', () => {
    const file = new URL('../../../deploy/topology.example.yaml', import.meta.url);
    const topology = parseTopology(readFileSync(file, 'utf8'), 'topology.example.yaml');
    const decode = topology.pools.find((pool) => pool.name === 'decode');
    expect(decode).toMatchObject({ role: 'decode', kvBudget: 512 * 1024 ** 2, threads: 'auto' });
    expect(topology.drain).toBe(30_000);
    expect(topology.nats.maxPayload).toBe(1_048_576);
  });

  test('the smallest one is a decode pool; the rest has defaults', () => {
    const topology = parseTopology('version: 1\npools: [{name: d, role: decode}]', 'small.yaml');
    expect(topology).toMatchObject({ model: 'tiny-moe', pools: [{ name: 'd', role: 'decode', count: 1, chip: 'cpu' }] });
  });

  test('all problems are reported at once, each with line and field', () => {
    const message = problemsOf(
      [
        'version: 2',
        'drain: 30',
        'pools:',
        '  - name: P!',
        '    role: prefill',
        '    kvBudget: lots',
        '    thread: 4',
        '  - {name: d, role: decode, codec: gzip}',
      ].join('\n'),
    );
    expect(message).toContain('cluster.yaml has 6 problems');
    expect(message).toMatch(/line 1, version: must be 1/);
    expect(message).toMatch(/line 2, drain: must be a duration such as 30s or 500ms, from 0ms to 24 days, not "30"/);
    expect(message).toMatch(/line 4, pools\[0\]\.name/);
    expect(message).toMatch(/line 6, pools\[0\]\.kvBudget: must be a size/);
    expect(message).toMatch(/line 7, pools\[0\]\.thread: is not a known field/);
    expect(message).toMatch(/pools\[1\]\.codec/);
  });

  test("a chat template is one model's", () => {
    const router = '  - {name: r, role: router, chatTemplate: chat.jinja}';
    const one = `version: 1\npools:\n${router}\n  - {name: d, role: decode}`;
    expect(parseTopology(one, 't.yaml').pools[0]).toMatchObject({ chatTemplate: 'chat.jinja' });
    const message = problemsOf(`${one}\n  - {name: e, role: decode, model: other}`);
    expect(message).toMatch(/line 3, pools\[0\]\.chatTemplate: is the template of one model, and the pools serve 2/);
  });

  test('rules between fields: names once, threads or cores, someone who decodes', () => {
    const message = problemsOf(
      [
        'version: 1',
        'pools:',
        '  - {name: a, role: prefill, model: x, threads: 2, cores: 0-1}',
        '  - {name: a, role: prefill, model: y, cores: "3", count: 2}',
        '  - {name: nats, role: router}',
      ].join('\n'),
    );
    expect(message).toMatch(/threads: stands beside cores/);
    expect(message).toMatch(/"a" is also the name of pools\[0\]/);
    expect(message).toMatch(/lists 1 cores for 2 processes/);
    expect(message).toMatch(/"nats" is reserved/);
    expect(message).toMatch(/no pool with role decode/);
  });

  test('answers of every model can be written; routers serve whatever there is', () => {
    const pools = '\n  - {name: p, role: prefill, model: x}\n  - {name: q, role: prefill}\n  - {name: d, role: decode, model: z}';
    const message = problemsOf(`version: 1\nmodel: y\npools:${pools}`);
    expect(message).toMatch(/line 4, pools\[0\].model: "x" has no pool with role decode: nothing could write its answers/);
    expect(message).toMatch(/line 5, pools\[1\]: "y" has no pool with role decode/);
    expect(problemsOf('version: 1\npools: [{name: r, role: router, model: x}, {name: d, role: decode}]')).toMatch(
      /pools\[0\].model: is not a known field/,
    );
  });

  test('what a process would refuse is refused in the file', () => {
    const message = problemsOf(
      [
        'version: 1',
        'drain: 30d',
        'pools:',
        '  - {name: r, role: router, maxQueue: 1000001, maxBody: 1GiB}',
        '  - {name: p, role: prefill, chip: abacus, threads: 1025, maxContext: 15, lease: 499ms}',
        '  - {name: d, role: decode, maxSequences: 1025, chunkTokens: 3, lease: 600h}',
      ].join('\n'),
    );
    expect(message).toContain('cluster.yaml has 10 problems');
    expect(message).toMatch(/line 2, drain: must be a duration such as 30s or 500ms, from 0ms to 24 days, not "30d"/);
    expect(message).toMatch(/pools\[0\]\.maxQueue: must be a whole number from 0 to 1000000/);
    expect(message).toMatch(/pools\[0\]\.maxBody: must be a size in bytes from 1 to 268435456/);
    expect(message).toMatch(/pools\[1\]\.chip: must be one of cpu/);
    expect(message).toMatch(/pools\[1\]\.threads: must be a whole number from 1 to 1024/);
    expect(message).toMatch(/pools\[1\]\.maxContext: must be a whole number from 16 to/);
    expect(message).toMatch(/pools\[1\]\.lease: must be a duration such as 30s or 500ms, from 500ms to 24 days, not "499ms"/);
    expect(message).toMatch(/pools\[2\]\.maxSequences: must be a whole number from 1 to 1024/);
    expect(message).toMatch(/pools\[2\]\.chunkTokens: must be a whole number from 4 to 65536/);
    expect(message).toMatch(/pools\[2\]\.lease: .*not "600h"/);
    expect(problemsOf('version: 1\npools: [{name: d, role: decode, blockTokens: 17}]')).toMatch(
      /line 2, pools\[0\]\.blockTokens: chip family cpu has no blocks of 17 tokens; it has: 16/,
    );
  });

  test('names of processes cannot collide through the numbers of another pool', () => {
    const message = problemsOf('version: 1\npools:\n  - {name: d, role: decode, count: 2}\n  - {name: d-1, role: prefill}');
    expect(message).toMatch(/pools\[1\]\.name: "d-1" is also the name of a process of pool "d"/);
  });

  test.each([
    ['not YAML', 'pools: [', /is not YAML/],
    ['a repeated key', 'version: 1\nversion: 1\npools: []', /is not YAML:\n {2}line 2/],
    ['empty', '', /version: must be 1/],
    ['a list', '- 1', /the file: /],
    ['no pools', 'version: 1', /pools: must be a list of pools/],
    ['an alias bomb', bomb(), /is not usable YAML|pools/],
    ['far too large', `version: 1\n${'#'.repeat(1_100_000)}`, /larger than 1 MiB/],
  ])('%s is refused with a reason', (_what, text, expected) => {
    expect(problemsOf(text)).toMatch(expected);
  });

  test('any text is either a topology or a ServiceError', () => {
    const value = fc.oneof(
      fc.string(),
      fc.jsonValue().map((json) => JSON.stringify(json)),
    );
    const pool = fc.record({
      name: value,
      role: fc.constantFrom('router', 'prefill', 'decode', 'expert', 'x'),
      count: value,
      cores: value,
      drain: value,
    });
    const text = fc.oneof(
      value,
      fc.record({ version: fc.constantFrom(1, '1'), drain: value, pools: fc.array(pool) }).map((file) => JSON.stringify(file)),
    );
    fc.assert(
      fc.property(text, (input) => {
        try {
          parseTopology(input, 'x');
        } catch (error) {
          expect(error).toBeInstanceOf(ServiceError);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("experts have the precision of the workers, and pools of them agree on what is the whole cluster's", () => {
    const message = problemsOf(
      [
        'version: 1',
        'pools:',
        '  - {name: d, role: decode, precision: exact}',
        '  - {name: e, role: expert, precision: fast, copies: 2}',
        '  - {name: f, role: expert, precision: fast, mode: exact, kvBudget: 1GiB}',
      ].join('\n'),
    );
    expect(message).toMatch(/kvBudget: is not a known field/);
    const agreed = problemsOf(
      [
        'version: 1',
        'pools:',
        '  - {name: d, role: decode, precision: exact}',
        '  - {name: e, role: expert, precision: fast, copies: 2}',
        '  - {name: f, role: expert, precision: fast, mode: exact}',
      ].join('\n'),
    );
    expect(agreed).toMatch(/line 3, pools\[0\].precision: is exact where pool "e" has fast/);
    expect(agreed).toMatch(/line 5, pools\[2\].copies: differs from pool "e"/);
    expect(agreed).toMatch(/line 5, pools\[2\].mode: differs from pool "e"/);
  });

  test('the built-in topology is one router, one prefill and one decode worker', () => {
    expect(defaultTopology().pools.map((pool) => [pool.role, pool.count])).toEqual([
      ['router', 1],
      ['prefill', 2],
      ['decode', 2],
      ['expert', 2],
    ]);
  });
});

function bomb(): string {
  const levels = Array.from(
    { length: 12 },
    (_, i) => `a${i}: &a${i} [${Array.from({ length: 12 }, () => (i === 0 ? 'x' : `*a${i - 1}`)).join(', ')}]`,
  );
  return `${levels.join('\n')}\nversion: 1\npools: *a11\n`;
}
