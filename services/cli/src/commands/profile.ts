import { writeFile } from 'node:fs/promises';
import { fail } from '@causeway/errors';
import { pageBytes, storageName } from '@causeway/kv';
import { abortable } from '@causeway/lifecycle';
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import {
  connectRedis,
  RegistryView,
  type WorkerLink,
  type WorkerProfile,
  type WorkerRecord,
  writeWorkerProfile,
} from '@causeway/registry';
import { createChannelPool } from '@causeway/rpc';
import { eventually } from '@causeway/testkit';
import { readRunState, type RunState } from '../cluster/run-state.ts';
import { promptText } from '../load/load-plan.ts';
import { quantile } from '../load/load-summary.ts';
import type { RunPaths } from '../paths.ts';
import { measureDecode, type MeasuredTransfer, measureTransfer, type Measuring } from '../profile/measure.ts';
import { profileLines } from '../profile/report.ts';
import type { Output } from '../terminal/output.ts';

const REGISTRY_MS = 2_000;

export interface ProfileOptions {
  /** Ids of workers or names of pools; empty: all. */
  workers: readonly string[];
  /** Prompt tokens to prefill, sequences to decode together, prompt tokens before them. */
  prompts: readonly number[];
  batches: readonly number[];
  contexts: readonly number[];
  repeats: number;
  /** File for the profiles as JSON; `-` prints them instead of the tables. */
  json?: string | undefined;
}

/**
 * Measures workers of this checkout's cluster, registers what they do and reports it. Other work on them shows in the figures.
 * @throws ServiceError `not_found` without a cluster or such a worker, `bad_config` for a model without tokenizer, or as workers say
 */
export async function profile(options: ProfileOptions, deps: { paths: RunPaths; out: Output }): Promise<number> {
  const state = readRunState(deps.paths);
  if (state === undefined) return fail('not_found', 'not_found', 'no cluster of this checkout is up; ./causeway up starts one');
  await using redis = await connectRedis({ url: state.redisUrl, namespace: state.namespace, deadlineMs: REGISTRY_MS });
  await using view = new RegistryView({ redis });
  await abortable(view.loaded, AbortSignal.timeout(REGISTRY_MS));
  const chosen = chooseWorkers(view.snapshot.workers, options.workers);
  using channels = createChannelPool();
  const profiles: WorkerProfile[] = [];
  const texts = new Map<string, readonly number[]>();
  for (const worker of chosen) {
    const ids =
      texts.get(worker.model) ?? (await promptIds(state, worker.model, Math.max(...options.prompts, ...options.contexts)));
    texts.set(worker.model, ids);
    const measuring = { channels, ids };
    if (options.json !== '-') deps.out.line(`measuring ${worker.id} ...`);
    const one =
      worker.role === 'decode'
        ? { ...identity(worker), decode: await decodeSteps(measuring, worker, options) }
        : { ...identity(worker), ...(await prefills(measuring, worker, view, options)) };
    await writeWorkerProfile(redis, one);
    profiles.push(one);
    if (options.json !== '-') for (const line of ['', ...profileLines(one), '']) deps.out.line(line);
  }
  const text = JSON.stringify(profiles, undefined, 2);
  if (options.json === '-') deps.out.line(text);
  else if (options.json !== undefined) await writeFile(options.json, `${text}\n`);
  return 0;
}

function chooseWorkers(all: readonly WorkerRecord[], named: readonly string[]): readonly WorkerRecord[] {
  const there = all.map(({ id }) => id).join(', ') || 'none';
  const is = (name: string) => (worker: WorkerRecord) => worker.id === name || worker.id.startsWith(`${name}-`);
  for (const name of named) {
    if (!all.some(is(name))) fail('not_found', 'not_found', `no worker or pool ${name} is registered; there are: ${there}`);
  }
  const chosen = named.length === 0 ? all : all.filter((worker) => named.some((name) => is(name)(worker)));
  return chosen.length > 0 ? chosen : fail('not_found', 'not_found', 'no worker is registered');
}

/** Tokens of a text, as the model has them. */
async function promptIds(state: RunState, model: string, tokens: number): Promise<readonly number[]> {
  const served = state.models.find(({ name }) => name === model);
  if (served === undefined) return fail('not_found', 'not_found', `this checkout's cluster does not say where ${model} lies`);
  using checkpoint = await openCheckpoint(served.path);
  if (checkpoint.tokenizerSource === undefined) return fail('invalid_argument', 'bad_config', `${model} has no tokenizer`);
  const ids = loadTokenizer(checkpoint.tokenizerSource).encode(promptText([{ id: 1, tokens: 2 * tokens }]));
  return ids.slice(0, tokens);
}

function identity(worker: WorkerRecord): WorkerProfile {
  const { id, incarnation, role, model, chip, descriptor } = worker;
  const { storage } = descriptor;
  return {
    version: 1,
    worker: id,
    incarnation,
    role,
    model,
    chip,
    storage: storageName(storage),
    measuredAt: Date.now(),
    kvBytesPerToken: pageBytes(descriptor) / storage.blockTokens,
    prefill: [],
    decode: [],
    links: [],
  };
}

async function decodeSteps(
  measuring: Measuring,
  worker: WorkerRecord,
  { batches, contexts }: ProfileOptions,
): Promise<WorkerProfile['decode']> {
  const steps: WorkerProfile['decode'] = [];
  const most = Math.max(1, worker.capacity.maxSequences);
  for (const context of contexts.filter((tokens) => tokens + 32 <= worker.contextLength)) {
    for (const batch of batches.filter((sequences) => sequences <= most)) {
      steps.push({ batch, context, stepMs: await measureDecode(measuring, worker, batch, context) });
    }
  }
  return steps;
}

/** Prompts of every length to one decode worker, and the longest to all others. */
async function prefills(
  measuring: Measuring,
  worker: WorkerRecord,
  view: RegistryView,
  { prompts, repeats }: ProfileOptions,
): Promise<Pick<WorkerProfile, 'prefill' | 'links'>> {
  const peers = view.snapshot.workers.filter(({ role, model }) => role === 'decode' && model === worker.model);
  const [first] = peers;
  if (first === undefined)
    return fail('not_found', 'not_found', `${worker.id} has no decode worker to send ${worker.model}'s KV to`);
  const lengths = prompts.filter((tokens) => tokens + 2 <= worker.contextLength);
  const prefill: WorkerProfile['prefill'] = [];
  for (const tokens of lengths) {
    const seen: number[] = [];
    for (let i = 0; i < repeats; i++) seen.push((await measureTransfer(measuring, worker, first, tokens)).prefillSeconds);
    prefill.push({
      tokens,
      seconds: quantile(
        seen.toSorted((a, b) => a - b),
        0.5,
      ),
    });
  }
  const links: WorkerProfile['links'] = [];
  const longest = lengths.at(-1);
  for (const peer of longest === undefined ? [] : peers) {
    let last: MeasuredTransfer | undefined;
    for (let i = 0; i < repeats; i++) last = await measureTransfer(measuring, worker, peer, longest as number);
    if (last === undefined) continue;
    const { prefillSeconds: _, ...transfer } = last;
    links.push({ ...(await linkTo(view, worker.id, peer.id)), ...transfer });
  }
  return { prefill, links };
}

/** What a worker tells of its link, once it has told of a transfer over it. Too few and small frames may leave its bandwidth unknown. */
function linkTo(view: RegistryView, from: string, to: string): Promise<WorkerLink> {
  return eventually(
    async () => {
      const worker = view.snapshot.workers.find(({ id }) => id === from);
      const link = worker?.links?.find((one) => one.to === to);
      if (link === undefined) throw new Error(`${from} has not told of its link to ${to}`);
      return link;
    },
    { what: `the link from ${from} to ${to} in the registry`, timeoutMs: 10_000 },
  );
}
