/**
 * A request meets a failure: phase x victim x signal. The process that passes the phase's failpoint waits there, the victim gets
 * its signal, the request goes on. Its tokens must be those of an undisturbed run: none lost, none doubled. Processes are real.
 *
 * Every phase meets every victim, with one of the two signals; with CAUSEWAY_TEST_FULL=1 with both, and the table is written to
 * docs/reports/chaos.json. CAUSEWAY_CHAOS_CELLS=PATTERN runs the cells whose name it matches.
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CELLS, EVERY_OTHER_CELL } from './cells.ts';
import { runTable, type TableRun, tableReport, tableText } from './table.ts';

const REPORT = fileURLToPath(new URL('../../docs/reports/chaos.json', import.meta.url));
const FULL = process.env['CAUSEWAY_TEST_FULL'] === '1';
const PATTERN = process.env['CAUSEWAY_CHAOS_CELLS'];
const cells =
  PATTERN === undefined ? (FULL ? CELLS : EVERY_OTHER_CELL) : CELLS.filter((cell) => new RegExp(PATTERN).test(cell.name));
/** All cells run together: the first test may wait for the last. */
const TABLE_LIMIT_MS = 1_200_000;

let run: TableRun;
let began = 0;

beforeAll(() => {
  began = performance.now();
  run = runTable(cells);
});

afterAll(async () => {
  const results = await run.done;
  await run[Symbol.asyncDispose]();
  const seconds = (performance.now() - began) / 1000;
  console.log(`\n${tableText(results, seconds)}`);
  if (FULL && PATTERN === undefined) await writeFile(REPORT, `${JSON.stringify(tableReport(results, seconds), null, 2)}\n`);
}, TABLE_LIMIT_MS);

describe('failure', () => {
  it.each(cells)(
    '$name',
    async (cell) => {
      const result = await run.result(cell);
      if (result.failure !== undefined) throw new Error(result.failure);
      expect(result.exercised).toBe(true);
    },
    TABLE_LIMIT_MS,
  );
});
