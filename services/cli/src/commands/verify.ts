import { fail } from '@causeway/errors';
import type { Precision } from '@causeway/models';
import { caseLine, summary } from '../verify/report.ts';
import { verify as runVerify } from '../verify/verify.ts';
import { findModel } from '../paths.ts';
import type { Output } from '../terminal/output.ts';

export interface VerifyFlags {
  dir: string;
  cluster: boolean;
  json: boolean;
  precision: Precision;
  threads: number;
}

/**
 * Compares a checkpoint with the reference outputs beside it. Exit code 0 within tolerance, 1 not, or when nothing could be compared.
 * @throws ServiceError when the checkpoint or its reference can't be read.
 */
export async function verify(flags: VerifyFlags, deps: { out: Output }): Promise<number> {
  const { out } = deps;
  const dir = findModel(flags.dir, process.cwd());
  if (dir === undefined) {
    fail('not_found', 'file_unreadable', `there is no checkpoint "${flags.dir}": neither a folder in models/ nor a path`);
  }
  const report = await runVerify({
    dir,
    cluster: flags.cluster,
    precision: flags.precision,
    threads: flags.threads,
    onCase: (item, done, total) => {
      if (!flags.json) out.line(`${String(done).padStart(3)}/${total}  ${caseLine(item)}`);
    },
  });
  out.line(flags.json ? JSON.stringify(report) : summary(report));
  return report.ok ? 0 : 1;
}
