/** Values checked against published TypeScript types by the compiler. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { findBinary } from '@causeway/testkit';

const TESTS = resolve(import.meta.dirname, '..');

/**
 * What the compiler says of a program in which packages of tests/ may be imported, a line each; empty when it is right.
 * @param module of its compiler options
 */
export function typeProblems(
  program: string,
  module: { module: 'nodenext'; moduleResolution: 'nodenext' } | { module: 'esnext'; moduleResolution: 'bundler' },
): string[] {
  const folder = mkdtempSync(join(TESTS, 'node_modules/.types-'));
  try {
    writeFileSync(join(folder, 'checked.ts'), program);
    const settings = { strict: true, noEmit: true, skipLibCheck: true, ...module, types: [] };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: settings, files: ['checked.ts'] }));
    const tsc = findBinary('tsc', 'typescript', `${join(TESTS, '../node_modules/.bin')}:${process.env['PATH'] ?? ''}`);
    execFileSync(tsc, ['-p', folder, '--pretty', 'false'], { encoding: 'utf8', stdio: 'pipe' });
    return [];
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    if (stdout === undefined || stdout === '') throw error;
    return stdout.split('\n').filter((line) => line.trim() !== '');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
