/**
 * How long a worker takes to load a model, against reading its file, and its largest resident memory meanwhile, against the file's size.
 *   node tests/bench/load.ts --model PATH [--precision exact|fast] [--role decode] [--kv-budget 268435456] [--threads 2] [--repeats 5] [--label TEXT] [--name load]
 * A real worker process is started, with NATS and Redis. Before each reading and each start the file is dropped from the page cache.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { type ClusterWorker, startCluster } from '@causeway/testkit';
import { flag, showSpread, spread, writeReport } from './bench-report.ts';
import { cpuSeconds } from './host-load.ts';

const model = resolve(flag('model', ''));
const role = flag('role', 'decode') as 'prefill' | 'decode';
const precision = flag('precision', 'exact');
const kvBudget = Number(flag('kv-budget', String(256 * 1024 ** 2)));
const threads = flag('threads', '2');
const repeats = Number(flag('repeats', '5'));

const files = statSync(model).isFile()
  ? [model]
  : readdirSync(model)
      .filter(isWeights)
      .map((name) => join(model, name));
const fileBytes = files.reduce((sum, file) => sum + statSync(file).size, 0);

function isWeights(name: string): boolean {
  return /\.(gguf|safetensors)$/.test(name) && !name.startsWith('golden');
}

/** Drops the files from the page cache (posix_fadvise, as coreutils' dd does for a count of 0). */
function makeCold(): void {
  for (const file of files) execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}

/** Milliseconds to read the files, in the way that takes the disk least. */
function readCold(): number {
  makeCold();
  const buffer = Buffer.allocUnsafe(8 << 20);
  const began = performance.now();
  for (const path of files) {
    const file = openSync(path, 'r');
    while (readSync(file, buffer, 0, buffer.length, null) > 0);
    closeSync(file);
  }
  return performance.now() - began;
}

/** Lines of /proc/PID/status, bytes. */
function memory(pid: number): { peak: number; settled: number; anonymous: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const line = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(text)?.[1]) * 1024;
  return { peak: line('VmHWM'), settled: line('VmRSS'), anonymous: line('RssAnon') };
}

await using cluster = await startCluster({
  model,
  prefill: 0,
  decode: 0,
  workerEnv: {
    CAUSEWAY_PRECISION: precision,
    CAUSEWAY_KV_BUDGET_BYTES: String(kvBudget),
    CAUSEWAY_THREADS: threads,
  },
});

async function load(): Promise<{ readyMs: number; cpuSeconds: number } & ReturnType<typeof memory>> {
  makeCold();
  const began = performance.now();
  const worker: ClusterWorker = await cluster.startWorker(role, 'loading');
  const readyMs = performance.now() - began;
  const seen = { ...memory(worker.process.pid), cpuSeconds: cpuSeconds(worker.process.pid) };
  await worker.process.stop();
  return { readyMs, ...seen };
}

const observed: ({ readMs: number; ratio: number; peakRatio: number } & Awaited<ReturnType<typeof load>>)[] = [];
for (let i = 0; i < repeats; i++) {
  const readMs = readCold();
  const loaded = await load();
  observed.push({ readMs, ...loaded, ratio: loaded.readyMs / readMs, peakRatio: loaded.peak / fileBytes });
  console.log(
    `read ${readMs.toFixed(0)} ms, ready in ${loaded.readyMs.toFixed(0)} ms, peak ${(loaded.peak / 2 ** 20).toFixed(0)} MiB = ${(loaded.peak / fileBytes).toFixed(2)} x the file, ` +
      `afterwards ${(loaded.settled / 2 ** 20).toFixed(0)} MiB`,
  );
}
const of = (key: keyof (typeof observed)[number]) => spread(observed.map((one) => one[key]));
const summary = {
  fileBytes,
  kvBudget,
  readMs: of('readMs'),
  readyMs: of('readyMs'),
  ratio: of('ratio'),
  cpuSeconds: of('cpuSeconds'),
  peakBytes: of('peak'),
  settledBytes: of('settled'),
  /** What is not the KV budget, against the file. */
  peakRatio: of('peakRatio'),
};
console.log(`ready / read ${showSpread(summary.ratio)}, peak / file ${showSpread(summary.peakRatio)}`);
const name = flag('name', '');
if (name !== '') {
  writeReport(name, {
    command: `node tests/bench/load.ts ${process.argv.slice(2).join(' ')}`,
    peers: { disk: 'the same file, read' },
    setting: { model: flag('label', basename(model)), role, precision, kvBudget, threads: Number(threads), repeats },
    repeats: observed,
    summary,
  });
}
