import { fail } from '@causeway/errors';
import { vulkanFor } from '../cluster/vulkan.ts';
import { runConformance, type ConformanceResult } from '../conformance/run-conformance.ts';
import { findModel } from '../paths.ts';
import type { Output } from '../terminal/output.ts';
import { table } from '../terminal/table.ts';

export interface ConformanceFlags {
  chip: string;
  emulated: boolean;
  model: string;
  storages: 'default' | 'all';
  threads: number;
  json: boolean;
}

interface Deps {
  out: Output;
  env: Readonly<Record<string, string | undefined>>;
}

/**
 * Checks a chip family on this machine: goldens, KV in place, gather and scatter of pages, conversions, cancel, on each of its storages.
 * Exit code 0 when everything holds, else 1.
 * @throws ServiceError when the family is unknown, its provider is missing, or the model or its reference can't be read
 */
export async function conformance(flags: ConformanceFlags, deps: Deps): Promise<number> {
  const { out, env } = deps;
  const dir = findModel(flags.model, process.cwd());
  if (dir === undefined) {
    fail('not_found', 'file_unreadable', `there is no checkpoint "${flags.model}": neither a folder in models/ nor a path`);
  }
  const { chip, emulated, storages, threads } = flags;
  const vulkanDir = emulated ? undefined : (env['CAUSEWAY_VULKAN_DIR'] ?? (await vulkanFor(chip, out)));
  const results = await runConformance({
    chip,
    emulated,
    vulkanDir,
    dir,
    threads,
    storages,
    onResult: ({ storage, check, ok }) => {
      if (!flags.json) out.line(`${ok ? 'ok  ' : 'FAIL'}  ${storage}: ${check}`);
    },
  });
  const passed = results.filter(({ ok }) => ok).length;
  if (flags.json) out.line(JSON.stringify({ chip, emulated, model: flags.model, results }));
  else {
    out.line('');
    for (const line of table(['STORAGE', 'CHECK', '', 'SECONDS', ''], results.map(row))) out.line(line);
    const what = `${chip}${emulated ? ', emulated' : ''}, ${flags.model}`;
    out.line('');
    out.line(
      `${passed === results.length ? 'conforms' : 'does NOT conform'}: ${what}; ${passed} of ${results.length} checks hold`,
    );
  }
  return passed === results.length && results.length > 0 ? 0 : 1;
}

function row({ storage, check, ok, seconds, detail }: ConformanceResult): string[] {
  return [storage, check, ok ? 'ok' : 'FAIL', seconds.toFixed(1), detail];
}
