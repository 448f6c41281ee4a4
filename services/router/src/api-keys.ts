import { createHash, timingSafeEqual } from 'node:crypto';
import { ServiceError } from '@causeway/errors';

/** Who may ask. */
export interface ApiKeys {
  /**
   * Checks the header or metadata `authorization`.
   * @throws ServiceError `unauthenticated/invalid_api_key` unless it is `Bearer` and one of the keys, or no key is needed
   */
  check(authorization: string | undefined): void;
}

/** `keys` empty: everybody may. Comparing takes the same time whatever is sent. */
export function createApiKeys(keys: readonly string[]): ApiKeys {
  const digests = keys.map(digestOf);
  return {
    check: (authorization) => {
      if (digests.length === 0) return;
      const key = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
      if (key === undefined) throw refusal('an API key is needed: send the header authorization: Bearer <key>');
      const sent = digestOf(key);
      // All are compared, whichever it is.
      const known = digests.filter((digest) => timingSafeEqual(digest, sent)).length > 0;
      if (!known) throw refusal('the API key is not one of those that this server takes');
    },
  };
}

function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function refusal(message: string): ServiceError {
  return new ServiceError(message, { code: 'unauthenticated', reason: 'invalid_api_key' });
}
