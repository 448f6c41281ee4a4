import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostPort } from '@causeway/config';
import { ServiceError } from '@causeway/errors';

/** Who listens on a TCP port, as far as /proc tells. */
export interface PortHolder {
  pid: number;
  command: string;
}

/** Whether nobody listens there. @throws ServiceError `bad_config` for an address that this machine cannot listen on at all */
export function isPortFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') return resolve(false);
      const message = `cannot listen on ${hostPort(host, port)}: ${error.message}`;
      reject(new ServiceError(message, { code: 'invalid_argument', reason: 'bad_config', cause: error }));
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** The process that listens on a port; undefined when none is found or it is another user's. */
export function portHolder(port: number): PortHolder | undefined {
  const inodes = new Set([...listeningInodes('/proc/net/tcp', port), ...listeningInodes('/proc/net/tcp6', port)]);
  if (inodes.size === 0) return undefined;
  for (const entry of list('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    for (const fd of list(`/proc/${entry}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(link(`/proc/${entry}/fd/${fd}`))?.[1];
      if (inode !== undefined && inodes.has(inode)) return { pid: Number(entry), command: commandOf(entry) };
    }
  }
  return undefined;
}

/** `nginx (pid 812)`, or what can be said when the holder is not visible. */
export function describeHolder(port: number): string {
  const holder = portHolder(port);
  return holder === undefined
    ? 'another process (of another user or container, or of a cluster that starts now)'
    : `${holder.command} (pid ${holder.pid})`;
}

/** proc(5): columns 2 local address (hex `ip:port`), 4 state (0A is LISTEN), 10 inode. */
function listeningInodes(table: string, port: number): string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return read(table)
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const columns = line.trim().split(/\s+/);
      const inode = columns[9];
      return columns[1]?.endsWith(`:${wanted}`) === true && columns[3] === '0A' && inode !== undefined ? [inode] : [];
    });
}

function commandOf(pid: string): string {
  const words = read(`/proc/${pid}/cmdline`)
    .split('\0')
    .filter((word) => word !== '');
  const shown = words.slice(0, 3).join(' ');
  return shown === '' ? read(`/proc/${pid}/comm`).trim() : shown.length > 100 ? `${shown.slice(0, 97)}...` : shown;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
