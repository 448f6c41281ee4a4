import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { REPOSITORY } from '../paths.ts';
import type { SignalSource } from '../terminal/stop-signals.ts';
import { StopSignals } from '../terminal/stop-signals.ts';

/** Benchmarks of tests/bench: each writes a raw report to docs/reports. `load` is no script but a command (bench-load.ts). */
export const BENCHMARKS = {
  engine: 'prefill and decode against llama.cpp on the same GGUF file; sequences decoded together against one',
  quality: 'fast and exact against the float32 reference, beside llama.cpp on the same file',
  operators: 'where the time of a decode step and of a prefill chunk goes, operator by operator',
  'wide-products': 'products of 8-bit weights in exact: with f32 weights, with inputs in three int8 parts, and as fast has them',
  device: 'prefill and decode on a chip family against the CPU of the same machine',
  cluster: 'through the cluster against the engine alone: TTFT, tokens/s of one stream or several, handoff gap',
  router: 'what the router adds to the way of a token',
  mixed: 'two workers that do both against one prefill and one decode worker, while long prompts arrive',
  'kv-transport': 'KV transport against raw NATS publish/subscribe',
  transfer: 'KV between every pair of chip families under every codec: GB/s, ratio, ms for 1,000 tokens, share of TTFT',
  'break-even': 'from which prompt length a prefill worker pays over a link of given bandwidth, predicted and measured',
  'codec-policy': 'the codec policy against fixed codecs on links of 50 Mbit/s, 1 and 10 Gbit/s',
  'kv-convert': 'pages of chip families to wire order and back',
  'kv-codecs': "codecs on a real model's KV: ratio, GB/s of encoding and decoding by one thread",
  placement: 'from which prompt length a prefill worker pays',
  topologies: 'what the built-in topology costs beside the least one: start, memory, tokens/s, CPU per token',
  cancel: 'from a cancellation to the last work done for it',
  overlap: 'how much of a transfer is left when a prompt has been computed',
  'long-context': 'a million tokens of DeepSeek-V4 over NATS: time, and memory beyond the pages',
  experts:
    'experts in process and in 1, 2 and 4 shards: tokens/s, gaps, where the time of a layer goes; the longest gap at each kill',
  'expert-dispatch': 'what a dispatch to an expert shard costs beside a bare gRPC message of as many bytes',
  'expert-balance': 'a skewed load on expert shards, placed in order and by load',
  'segment-cut': 'what a cut between graph segments costs',
  render: 'writes docs/benchmarks.md from the reports',
} as const;

export type Benchmark = keyof typeof BENCHMARKS;

/** Runs a script of tests/bench with its own options and gives its exit code. A signal ends both. */
export async function bench(name: Benchmark, args: readonly string[], deps: { signals: SignalSource }): Promise<number> {
  const script = join(REPOSITORY, 'tests', 'bench', `${name}.ts`);
  const child = spawn(process.execPath, [script, ...args], { stdio: 'inherit' });
  using stop = new StopSignals(deps.signals, () => void child.kill('SIGTERM'));
  const code = await new Promise<number>((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (status) => resolve(status ?? 130));
  });
  return stop.count > 0 ? 130 : code;
}
