/** Under which address others reach this worker, and whether they can. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { networkInterfaces } from 'node:os';
import { hostPort } from '@causeway/config';
import { fail } from '@causeway/errors';

/** What a worker is told about its address. */
export interface AdvertiseChoice {
  /** Address that it listens on. */
  host: string;
  advertiseHost?: string | undefined;
  advertiseInterface?: string | undefined;
}

/**
 * The address to register: the one that is named; else that of the named interface; else the one that is listened on; for a wildcard
 * that of the only interface. Nothing is guessed: a wrong address would show only as transfers that never arrive.
 * @throws ServiceError `bad_config` that lists the interfaces when none or several would do
 */
export function advertisedHost(choice: AdvertiseChoice, interfaces: ReturnType<typeof networkInterfaces>): string {
  if (choice.advertiseHost !== undefined) return choice.advertiseHost;
  const wildcard = choice.host === '0.0.0.0' || choice.host === '::';
  if (choice.advertiseInterface === undefined && !wildcard) return choice.host;
  const family = choice.host === '0.0.0.0' ? ['IPv4'] : ['IPv4', 'IPv6'];
  const found = Object.entries(interfaces).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter(({ family: of, internal, address }) => family.includes(of) && !internal && !/^(169\.254\.|fe80:)/i.test(address))
      .slice(0, 1)
      .map(({ address }) => ({ name, address })),
  );
  const listed = found.length === 0 ? 'none' : found.map(({ name, address }) => `${name} (${address})`).join(', ');
  const say = 'set CAUSEWAY_ADVERTISE_HOST to the address that others reach this worker by';
  if (choice.advertiseInterface !== undefined) {
    const named = found.find(({ name }) => name === choice.advertiseInterface);
    return (
      named?.address ??
      fail(
        'invalid_argument',
        'bad_config',
        `CAUSEWAY_ADVERTISE_INTERFACE is "${choice.advertiseInterface}"; interfaces with an address: ${listed}; correct it, or ${say}`,
      )
    );
  }
  const [only, ...others] = found;
  if (only !== undefined && others.length === 0) return only.address;
  return fail(
    'invalid_argument',
    'bad_config',
    `listening on ${choice.host}, this worker has ${only === undefined ? 'no address' : 'several addresses'} to register (${listed}); ${say}, or CAUSEWAY_ADVERTISE_INTERFACE to one of them`,
  );
}

/**
 * Connects to the address that is about to be registered, as routers will.
 * @throws ServiceError `bad_config` when it can't be reached from here
 */
export async function checkReachable(what: string, host: string, port: number, timeoutMs = 5000): Promise<void> {
  const socket = connect({ host, port });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    const why = error instanceof Error && error.name !== 'AbortError' ? error.message : `no answer within ${timeoutMs} ms`;
    fail(
      'invalid_argument',
      'bad_config',
      `${what} of this worker would be registered as ${hostPort(host, port)}, which does not lead here (${why}); set CAUSEWAY_ADVERTISE_HOST to an address that does`,
      { cause: error },
    );
  } finally {
    socket.destroy();
  }
}
