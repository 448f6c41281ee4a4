/** The official Python client as a process that plays scenarios. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const VERSION = '3.57.0';
const FOLDER = resolve(import.meta.dirname, '../../.causeway/python', `openai-${VERSION}`);
const SCRIPT = join(import.meta.dirname, 'python_client.py');

/** A Python that has the client, installed once beside the checkout's other state; undefined without Python, `venv` or an index. */
export function pythonWithOpenai(): string | undefined {
  const python = join(FOLDER, 'bin/python');
  if (existsSync(python)) return python;
  const unfinished = `${FOLDER}.${process.pid}`;
  mkdirSync(resolve(FOLDER, '..'), { recursive: true });
  const done = (command: string, args: readonly string[]): boolean => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `openai==${VERSION}`];
  const made = done('python3', ['-m', 'venv', unfinished]) && done(join(unfinished, 'bin/python'), pip);
  if (made) renameSync(unfinished, FOLDER);
  else rmSync(unfinished, { recursive: true, force: true });
  return made ? python : undefined;
}

export class PythonClient implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  constructor(python: string, baseUrl: string, key: string) {
    this.#process = spawn(python, [SCRIPT, baseUrl, key], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#errors += text));
    this.#lines = createInterface({ input: this.#process.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]();
  }

  /** What a scenario of python_client.py saw. @throws Error with Python's traceback when it fails. */
  async play(scenario: string): Promise<unknown> {
    this.#process.stdin?.write(`${scenario}\n`);
    const { value, done } = await this.#lines.next();
    if (done !== true) return JSON.parse(value);
    throw new Error(`python ended in ${scenario}: ${this.#errors}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((end) => this.#process.once('close', end));
    if (this.#process.exitCode !== null) return;
    this.#process.stdin?.end();
    await ended;
  }
}
