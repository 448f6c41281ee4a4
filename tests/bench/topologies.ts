/**
 * What the built-in topology costs beside the least one, on this machine: time from `up` to ready, memory of all processes, tokens per
 * second of one request and of four at a time, and CPU time per token, which other processes disturb least.
 *   node tests/bench/topologies.ts [--repeats 3] [--requests 12] [--name topologies]
 * Real `up`s, one after the other, in turn.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Child, freePort } from '@causeway/testkit';
import { flag, showSpread, spread, type Spread, writeReport } from './bench-report.ts';
import { cpuSeconds, OtherProcesses } from './host-load.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const TOPOLOGIES: Readonly<Record<string, readonly string[]>> = {
  'built-in': [],
  minimal: ['--topology', join(ROOT, 'topologies/minimal.yaml')],
};
const repeats = Number(flag('repeats', '3'));
const requests = Number(flag('requests', '12'));
const TOKENS = 64;
const PROMPT = 'Write about the seasons, the colors of the sky and the capital of France.';

interface Observation {
  topology: string;
  readySeconds: number;
  processes: number;
  residentMiB: number;
  tokensPerSecond: { one: number; four: number };
  cpuMsPerToken: { one: number; four: number };
  /** Cores that everything else on the machine kept busy. */
  othersCores: number;
}

/** Tokens of this many answers, so many at a time. */
async function ask(url: string, count: number, atOnce: number): Promise<number> {
  let tokens = 0;
  let left = count;
  const one = async (): Promise<void> => {
    for (; left > 0; ) {
      left -= 1;
      const response = await fetch(`${url}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model: 'tiny-moe',
          messages: [{ role: 'user', content: PROMPT }],
          max_tokens: TOKENS,
          ignore_eos: true,
          temperature: 0,
          causeway: { placement: 'disaggregated' },
        }),
      });
      if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
      tokens += ((await response.json()) as { usage: { completion_tokens: number } }).usage.completion_tokens;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return tokens;
}

async function observe(topology: string): Promise<Observation> {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-topologies-'));
  try {
    const others = new OtherProcesses();
    const began = performance.now();
    const ports = ['--http-port', String(await freePort()), '--grpc-port', String(await freePort())];
    await using up = new Child({
      command: process.execPath,
      args: [join(ROOT, 'services/cli/src/main.ts'), 'up', '--no-prompt', ...ports, ...(TOPOLOGIES[topology] ?? [])],
      env: { ...process.env, CAUSEWAY_RUN_DIR: join(folder, 'run') },
    });
    const line = await up.waitForLine(/^ready {2}HTTP/, 180_000);
    const readySeconds = (performance.now() - began) / 1000;
    const url = /HTTP (\S+)/.exec(line)?.[1] ?? '';
    const state = JSON.parse(readFileSync(join(folder, 'run/state.json'), 'utf8')) as {
      services: { process: { pid: number } }[];
    };
    const pids = state.services.map((service) => service.process.pid);
    const cpu = (): number => pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
    await ask(url, 4, 2);
    const measured = async (atOnce: number): Promise<{ rate: number; cpuMs: number }> => {
      const before = { at: performance.now(), cpu: cpu() };
      const tokens = await ask(url, requests, atOnce);
      return { rate: (tokens * 1000) / (performance.now() - before.at), cpuMs: ((cpu() - before.cpu) * 1000) / tokens };
    };
    const one = await measured(1);
    const four = await measured(4);
    const resident = pids.map((pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);
    // The cluster's processes are no children of this one.
    const othersCores = Math.max(0, others.cores() - (cpu() * 1000) / (performance.now() - began));
    up.signal('TERM');
    await up.exited;
    return {
      topology,
      readySeconds,
      processes: pids.length,
      residentMiB: resident.reduce((sum, mib) => sum + mib, 0),
      tokensPerSecond: { one: one.rate, four: four.rate },
      cpuMsPerToken: { one: one.cpuMs, four: four.cpuMs },
      othersCores,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const observations: Observation[] = [];
for (let repeat = 0; repeat < repeats; repeat += 1) {
  for (const topology of Object.keys(TOPOLOGIES)) {
    const seen = await observe(topology);
    observations.push(seen);
    console.log(JSON.stringify(seen));
  }
}

const summary = Object.keys(TOPOLOGIES).map((topology) => {
  const of = (pick: (seen: Observation) => number): Spread =>
    spread(observations.filter((seen) => seen.topology === topology).map(pick));
  return {
    topology,
    processes: of((seen) => seen.processes).median,
    readySeconds: of((seen) => seen.readySeconds),
    residentMiB: of((seen) => seen.residentMiB),
    tokensPerSecondOne: of((seen) => seen.tokensPerSecond.one),
    tokensPerSecondFour: of((seen) => seen.tokensPerSecond.four),
    cpuMsPerTokenOne: of((seen) => seen.cpuMsPerToken.one),
    cpuMsPerTokenFour: of((seen) => seen.cpuMsPerToken.four),
    othersCores: of((seen) => seen.othersCores),
  };
});
for (const row of summary)
  console.log(
    `${row.topology}: ready ${showSpread(row.readySeconds)} s, ${showSpread(row.tokensPerSecondOne, 0)} tokens/s, CPU ${showSpread(row.cpuMsPerTokenOne)} ms/token`,
  );
writeReport(flag('name', 'topologies'), {
  command: `node tests/bench/topologies.ts --repeats ${repeats} --requests ${requests}`,
  peers: {},
  setting: { requests, tokens: TOKENS, model: 'tiny-moe' },
  repeats: observations,
  summary,
});
