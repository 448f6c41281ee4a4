import { acquireLock } from './instance-lock.ts';
import { isPortFree } from './port-holder.ts';

/** How many ports after the first one are tried. */
const FURTHER = 200;
const LAST_PORT = 65_535;

/**
 * Ports that one `up` has chosen, from before their servers listen until it ends: another one that starts meanwhile chooses others. Each is
 * a lock that the kernel releases with its holder, as the ports themselves.
 */
export class PortReservations implements AsyncDisposable {
  readonly #locks = new AsyncDisposableStack();

  /** Whether the port was free on this address and is reserved now. @throws ServiceError `bad_config` for an address that is none here */
  async reserve(host: string, port: number): Promise<boolean> {
    const lock = await acquireLock(`port-${port}`);
    if (lock === undefined) return false;
    if (await isPortFree(host, port)) {
      this.#locks.use(lock);
      return true;
    }
    await lock[Symbol.asyncDispose]();
    return false;
  }

  /** Reserves the first free port from `from` on; undefined when all that were tried are taken. Throws as `reserve`. */
  async next(host: string, from: number): Promise<number | undefined> {
    for (let port = from; port <= Math.min(LAST_PORT, from + FURTHER); port += 1) {
      if (await this.reserve(host, port)) return port;
    }
    return undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#locks.disposeAsync();
  }
}
