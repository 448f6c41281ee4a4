import type { ServerResponse } from 'node:http';
import { abortable } from '@causeway/lifecycle';

/** Writes to a client no faster than it reads: a write that fills the socket's buffer is waited for. */
export interface StreamWriter {
  /** Rejects with the signal's reason when the request ends meanwhile. */
  write(text: string): Promise<void>;
  end(): void;
}

/** A writer over a raw response whose head has been written. */
export function streamWriter(response: ServerResponse, signal: AbortSignal): StreamWriter {
  return {
    write: async (text) => {
      signal.throwIfAborted();
      if (text === '' || response.write(text)) return;
      const drained = Promise.withResolvers<void>();
      response.once('drain', drained.resolve);
      try {
        await abortable(drained.promise, signal);
      } finally {
        response.off('drain', drained.resolve);
      }
    },
    end: () => response.end(),
  };
}
