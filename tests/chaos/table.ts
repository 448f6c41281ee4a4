/** Runs the failure table over a few clusters and shows it. */
import { cpus, totalmem } from 'node:os';
import { CELLS, type Cell } from './cells.ts';
import { Lane } from './lane.ts';
import { type CellResult, runCell } from './run-cell.ts';

/** Clusters at the same time. A stopped process waits 15 s, so that two processors are enough for five. */
const LANES = 5;

export interface TableRun extends AsyncDisposable {
  /** A cell's result, when it is there. Never rejects unless no cluster could be started. */
  result(cell: Cell): Promise<CellResult>;
  readonly done: Promise<readonly CellResult[]>;
}

/** Starts the cells: the long ones first, each in whichever cluster is free. */
export function runTable(cells: readonly Cell[]): TableRun {
  const queue = cells.toSorted((a, b) => (a.signal === b.signal ? 0 : a.signal === 'STOP' ? -1 : 1));
  const results = new Map(cells.map((cell) => [cell.name, Promise.withResolvers<CellResult>()]));
  for (const { promise } of results.values()) promise.catch(() => undefined);
  const stopped = new AbortController();
  const references = new Map<number, string>();
  const temperatures = [...new Set(CELLS.map((cell) => cell.temperature))];

  const open = async (): Promise<Lane> => {
    const lane = await Lane.start(temperatures);
    for (const temperature of temperatures) {
      const ids = lane.reference(temperature).ids.join();
      const before = references.get(temperature);
      if (before !== undefined && before !== ids) throw new Error(`undisturbed answers differ: [${before}] and [${ids}]`);
      references.set(temperature, ids);
    }
    return lane;
  };
  const work = async (): Promise<void> => {
    let lane: Lane | undefined;
    try {
      for (let cell = queue.shift(); cell !== undefined && !stopped.signal.aborted; cell = queue.shift()) {
        try {
          lane ??= await open();
          const result = await runCell(lane, cell);
          results.get(cell.name)?.resolve(result);
          if (result.failure === undefined) continue;
          // What a failed cell left behind must not fail the next.
          await lane[Symbol.asyncDispose]();
          lane = undefined;
        } catch (error) {
          results.get(cell.name)?.reject(error);
        }
      }
    } finally {
      await lane?.[Symbol.asyncDispose]();
    }
  };
  const workers = Promise.all(Array.from({ length: Math.min(LANES, cells.length) }, work));
  workers.catch(() => undefined);
  return {
    result: (cell) => {
      const pending = results.get(cell.name);
      if (pending === undefined) throw new Error(`cell ${cell.name} does not run`);
      return pending.promise;
    },
    done: Promise.allSettled([...results.values()].map(({ promise }) => promise)).then((settled) =>
      settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : [])),
    ),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await workers;
    },
  };
}

/** The table as text, one line a cell. */
export function tableText(results: readonly CellResult[], seconds: number): string {
  const rows = results.map(({ cell, exercised, failure, outcome, attempts, tokensBefore, seconds: took }) => [
    cell.phase,
    cell.victim,
    cell.signal,
    failure === undefined && exercised ? 'ok' : exercised ? 'FAILED' : 'NOT EXERCISED',
    outcome,
    String(attempts ?? ''),
    cell.api === 'grpc' ? String(tokensBefore) : '',
    took.toFixed(1),
    `${cell.recovery}, ${cell.temperature === 0 ? 'greedy' : `temperature ${cell.temperature}`}, ${cell.api}${cell.spare ? ', spare' : ''}`,
  ]);
  const head = ['phase', 'victim', 'signal', 'tokens', 'KV', 'attempts', 'before', 'seconds', 'with'];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  const good = results.filter((result) => result.failure === undefined && result.exercised).length;
  return [
    line(head),
    widths.map((width) => '-'.repeat(width)).join('  '),
    ...rows.map(line),
    `${good} of ${results.length} cells as undisturbed, ${seconds.toFixed(0)} s`,
  ].join('\n');
}

/** The table as a report. */
export function tableReport(results: readonly CellResult[], seconds: number): object {
  return {
    what: 'phase x victim x signal: the tokens of a request that meets a failure, compared with an undisturbed run',
    date: new Date().toISOString().slice(0, 10),
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30) },
    node: process.version,
    model: 'tiny-moe',
    lanes: LANES,
    seconds: Math.round(seconds),
    cells: results.map(({ cell, exercised, failure, outcome, attempts, tokensBefore, seconds: took }) => ({
      phase: cell.phase,
      victim: cell.victim,
      signal: cell.signal,
      exercised,
      equal: failure === undefined,
      outcome,
      attempts: attempts ?? null,
      tokensBefore: cell.api === 'grpc' ? tokensBefore : null,
      seconds: Math.round(took * 10) / 10,
      recovery: cell.recovery,
      temperature: cell.temperature,
      api: cell.api,
      spare: cell.spare,
      ...(failure === undefined ? {} : { failure: failure.split('\n')[0] }),
    })),
  };
}
