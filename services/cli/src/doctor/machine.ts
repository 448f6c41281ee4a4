/** Checks of this machine: what `up` and a worker need of it. */
import { execFileSync } from 'node:child_process';
import { availableParallelism, totalmem } from 'node:os';
import { Runtime } from '@causeway/ort';
import { findBinary } from '@causeway/testkit';
import { formatBytes } from '@causeway/topology';
import { roomIn } from '../cluster/run-folder.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

const MIN_DISK = 256 * 1024 ** 2;
const MIN_MEMORY = 2 * 1024 ** 3;

/** @param runFolder where `up` keeps state and logs */
export async function checkMachine(runFolder: string, path: string | undefined): Promise<Finding[]> {
  return [
    processors(),
    memory(),
    await library(),
    server('nats-server', /v(\d+)\.(\d+)/, [2, 9], path),
    server('redis-server', /v=(\d+)\.(\d+)/, [6, 0], path),
    folder(runFolder),
  ];
}

function processors(): Finding {
  const cores = availableParallelism();
  return cores >= 2
    ? ok('processors', `${cores}`)
    : warning('processors', `${cores}`, 'prefill and decode share it and wait for each other: use a machine with two or more');
}

function memory(): Finding {
  const bytes = totalmem();
  const found = formatBytes(bytes);
  return bytes >= MIN_MEMORY ? ok('memory', found) : warning('memory', found, 'a small kvBudget in the topology, or more memory');
}

async function library(): Promise<Finding> {
  try {
    await using runtime = Runtime.create({ threads: 1 });
    return ok('ONNX Runtime', runtime.providers().join(', '));
  } catch (error) {
    return problem('ONNX Runtime', (error as Error).message, 'run ./causeway setup; on Alpine (musl) there is no library');
  }
}

function server(name: string, pattern: RegExp, wanted: readonly [number, number], path: string | undefined): Finding {
  const needed = `${name} ${wanted.join('.')} or newer`;
  try {
    const text = execFileSync(findBinary(name, name, path), ['--version'], { encoding: 'utf8', timeout: 5000 }).trim();
    const [, major, minor] = pattern.exec(text) ?? [];
    if (major === undefined) return warning(name, text.slice(0, 100), `its version can't be read; ${needed} is needed`);
    const newer = Number(major) > wanted[0] || (Number(major) === wanted[0] && Number(minor) >= wanted[1]);
    return newer ? ok(name, `${major}.${minor}`) : problem(name, `${major}.${minor}`, `install ${needed}`);
  } catch (error) {
    return problem(name, (error as Error).message.split('\n')[0] ?? '', `install ${needed}, or run servers elsewhere`);
  }
}

function folder(path: string): Finding {
  const room = roomIn(path);
  const what = `folder ${path}`;
  if ('problem' in room) return problem(what, room.problem, 'set CAUSEWAY_RUN_DIR to a folder that can');
  const found = `${formatBytes(room.free)} free`;
  return room.free >= MIN_DISK ? ok(what, found) : problem(what, found, 'make room: state and logs are written there');
}
