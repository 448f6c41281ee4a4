import { open, writeFile } from 'node:fs/promises';
import { fail } from '@causeway/errors';
import { storageName } from '@causeway/kv';
import { abortable } from '@causeway/lifecycle';
import { connectRedis, RegistryView } from '@causeway/registry';
import { formatBytes } from '@causeway/topology';
import { type DumpedKv, readKv } from '@causeway/worker-runtime';
import { readRunState } from '../cluster/run-state.ts';
import type { RunPaths } from '../paths.ts';
import type { Output } from '../terminal/output.ts';

const REGISTRY_MS = 2_000;

export interface KvDumpOptions {
  requestId: string;
  /** A worker's id, or its `host:port` when it is not of this checkout's cluster. */
  worker: string;
  out: string;
}

/**
 * Writes the pages of a prompt whose answer is being written to a file, as the worker stores them, and beside it, with `.json`, how.
 * @throws ServiceError `not_found`, `bad_config`, `dependency_unavailable`
 */
export async function kvDump(options: KvDumpOptions, deps: { paths: RunPaths; out: Output }): Promise<number> {
  const { requestId, out } = options;
  const address = options.worker.includes(':') ? options.worker : await workerAddress(options.worker, deps.paths);
  const file = await open(out, 'w');
  let dumped: DumpedKv;
  try {
    dumped = await readKv(address, requestId, async (bytes) => void (await file.write(bytes)));
  } finally {
    await file.close();
  }
  const { descriptor, tokens, pages, bytes } = dumped;
  const { layers, storage } = descriptor;
  await writeFile(`${out}.json`, `${JSON.stringify({ layers, storage, tokens }, undefined, 2)}\n`);
  deps.out.line(
    `${out}: ${tokens} tokens in ${pages} pages, ${storageName(storage)}, ${formatBytes(bytes)}; ${out}.json says how`,
  );
  return 0;
}

/** gRPC address of a worker of this checkout's cluster. */
async function workerAddress(id: string, paths: RunPaths): Promise<string> {
  const state = readRunState(paths);
  if (state === undefined)
    return fail('not_found', 'not_found', 'no cluster of this checkout is up; name the worker by host:port');
  await using redis = await connectRedis({ url: state.redisUrl, namespace: state.namespace, deadlineMs: REGISTRY_MS });
  await using view = new RegistryView({ redis });
  await abortable(view.loaded, AbortSignal.timeout(REGISTRY_MS));
  const { workers } = view.snapshot;
  const worker = workers.find((candidate) => candidate.id === id);
  if (worker !== undefined) return worker.address;
  const there = workers.map((candidate) => candidate.id).join(', ') || 'none';
  return fail('not_found', 'not_found', `no worker ${id} is registered; there are: ${there}`);
}
