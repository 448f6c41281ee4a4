import { ServiceError } from '@causeway/errors';

/** What was made, and with how much of the budget. */
export interface Fitted<T> {
  made: T;
  budgetBytes: number;
  /** Why it is less than was given. */
  lessened?: string;
}

/**
 * Makes something within a budget; where a device says that it has no room, within half of it, and so on while `make` finds a way.
 * @param make makes it; ServiceError `resource_exhausted` where the device has no room, `bad_config` where so little does not do
 * @throws ServiceError what the first try threw when no try succeeds
 */
export async function fitDevice<T>(budgetBytes: number, make: (budgetBytes: number) => Promise<T>): Promise<Fitted<T>> {
  let first: ServiceError | undefined;
  for (let bytes = budgetBytes; ; bytes = Math.floor(bytes / 2)) {
    try {
      const made = await make(bytes);
      if (first === undefined) return { made, budgetBytes: bytes };
      return { made, budgetBytes: bytes, lessened: `${first.message}; a KV budget of ${bytes} bytes does` };
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      if (first !== undefined && error.reason === 'bad_config') throw first;
      if (error.code !== 'resource_exhausted') throw error;
      first ??= error;
    }
  }
}
