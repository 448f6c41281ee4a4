/** `./causeway` as a user meets it: its commands, in a run folder of their own. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Child } from '@causeway/testkit';

/** What `./causeway` runs. */
export const MAIN = resolve(import.meta.dirname, '../../services/cli/src/main.ts');

/** The line that `up` prints of its first answer. */
export const FIRST_LINE =
  /^prefill(?:-\d+)? \((?:cpu|nvidia, emulated)\) read \d+ tokens and sent [\d.]+ [KM]iB of KV cache \(.+\) over NATS in [\d.]+ m?s to decode(?:-\d+)? \((?:cpu|ascend, emulated)\), which wrote \d+ tokens(?:, calling experts of .+)?; first token after [\d.]+ m?s, then \d+ tokens\/s$/;

/** `status --json`, the fields that tests read. */
export interface Status {
  running: boolean;
  phase: string;
  supervisorPid: number;
  http: string;
  grpc: string;
  services: { name: string; pid: number; ready: boolean; restarts: number; ports: Record<string, number> }[];
  models: { name: string; path: string; prefill: number; decode: number; ready: boolean }[];
  workers: {
    id: string;
    role: string;
    model: string;
    chip: string;
    freePages: number;
    totalPages: number;
    contextLength: number;
  }[];
}

export interface CommandResult {
  code: number | null;
  output: string;
}

/** Disposing stops every command, takes its cluster down and removes the folder. */
export class CommandFolder implements AsyncDisposable {
  readonly path = mkdtempSync(join(tmpdir(), 'causeway-cli-'));
  readonly #running: Child[] = [];
  readonly #more: Readonly<Record<string, string>>;

  /** @param more environment of the commands */
  constructor(more: Readonly<Record<string, string>> = {}) {
    this.#more = more;
  }

  /** The whole environment that commands get. */
  get env(): Record<string, string> {
    const cache = process.env['NODE_COMPILE_CACHE'];
    return {
      PATH: process.env['PATH'] ?? '',
      HOME: this.path,
      CAUSEWAY_RUN_DIR: join(this.path, 'run'),
      CAUSEWAY_MODELS: join(this.path, 'models'),
      ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: cache }),
      ...this.#more,
    };
  }

  start(args: readonly string[]): Child {
    return this.#start(process.execPath, [MAIN, ...args]);
  }

  async run(args: readonly string[]): Promise<CommandResult> {
    return result(this.start(args));
  }

  /** The same with lines on standard input. */
  async pipe(lines: readonly string[], args: readonly string[]): Promise<CommandResult> {
    const script = 'printf "%s\\n" "$INPUT" | "$@"';
    const child = this.#start('sh', ['-c', script, 'sh', process.execPath, MAIN, ...args], { INPUT: lines.join('\n') });
    return result(child);
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.run(['status', '--json'])).output) as Status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#running.splice(0)) await child.stop();
    if (existsSync(this.env['CAUSEWAY_RUN_DIR'] ?? '')) await this.run(['down', '--now']);
    rmSync(this.path, { recursive: true, force: true });
  }

  #start(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Child {
    const child = new Child({ command, args, env: { ...this.env, ...env }, cwd: this.path });
    this.#running.push(child);
    return child;
  }
}

async function result(child: Child): Promise<CommandResult> {
  const { code } = await child.exited;
  return { code, output: child.lines.join('\n') };
}

/** The state letter of a process (proc(5): T is stopped, Z a zombie); undefined when there is none. */
export function processState(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  } catch {
    return undefined;
  }
}

export function alive(pid: number): boolean {
  const state = processState(pid);
  return state !== undefined && state !== 'Z';
}
