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
 * Compares a checkpoint with the reference outputs beside it. Exit code 0 within tolerance, 1 not.
 * @throws ServiceError when the checkpoint or its reference can't be read.
 */
export async function verify(flags: VerifyFlags, deps: { out: Output }): Promise<number> {
  const { out } = deps;
  const report = await runVerify({
    dir: findModel(flags.dir, process.cwd()) ?? flags.dir,
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
