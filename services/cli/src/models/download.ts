import { fail, ServiceError } from '@causeway/errors';
import { backoff, sleep } from '@causeway/lifecycle';
import { bytesThere, DraftFile, type DraftSpec, isFinished } from './draft-file.ts';
import { type HubAccess, hubError, isPassing } from './hub-access.ts';

export interface DownloadHooks {
  readonly signal: AbortSignal;
  /** Told how many bytes are there, now and then. */
  readonly onBytes: (bytes: number) => void;
  /** Told why a connection is tried again. */
  readonly onRetry: (why: string) => void;
}

/** Attempts in a row that bring nothing before it is given up. */
const FRUITLESS = 5;

/**
 * Brings a file by HTTP: goes on where an earlier attempt stopped (Range, RFC 9110 section 14), tries again when a connection is cut or
 * silent, checks size and hash, and only then gives the file its name.
 * @throws ServiceError `checksum`, `no_capacity`, what `hubError` makes of a refusal, or `dependency_unavailable` after several fruitless attempts
 */
export async function downloadFile(url: string, spec: DraftSpec, hub: HubAccess, hooks: DownloadHooks): Promise<void> {
  if (await isFinished(spec)) return hooks.onBytes(spec.size);
  const resumed = bytesThere(spec.path) > 0;
  try {
    await bring(url, spec, hub, hooks);
  } catch (error) {
    // What was there may have been the beginning of another version.
    if (!resumed || !(error instanceof ServiceError) || error.reason !== 'checksum') throw error;
    hooks.onRetry('what an earlier attempt left is of another version');
    await bring(url, spec, hub, hooks);
  }
}

async function bring(url: string, spec: DraftSpec, hub: HubAccess, hooks: DownloadHooks): Promise<void> {
  await using draft = await DraftFile.open(spec);
  hooks.onBytes(draft.bytes);
  const delays = backoff({ minMs: hub.retryMs, maxMs: 15_000 });
  let fruitless = 0;
  while (draft.bytes < spec.size) {
    const before = draft.bytes;
    let waitMs = 0;
    try {
      await attempt(url, draft, hub, hooks);
      if (draft.bytes === spec.size) break;
      throw new Error(`the connection ended ${spec.size - draft.bytes} bytes early`);
    } catch (error) {
      hooks.signal.throwIfAborted();
      if (error instanceof ServiceError && !isPassing(error)) throw error;
      fruitless = draft.bytes > before ? 0 : fruitless + 1;
      const why = describe(error);
      if (fruitless >= FRUITLESS) {
        fail(
          'unavailable',
          'dependency_unavailable',
          `${url}: ${why}; ${FRUITLESS} attempts brought nothing. ${draft.bytes} bytes are kept: pull again to go on`,
          { cause: error },
        );
      }
      waitMs =
        error instanceof ServiceError && error.retryAfterSeconds !== undefined
          ? error.retryAfterSeconds * 1000
          : delays.next().value;
      hooks.onRetry(why);
    }
    await sleep(waitMs, hooks.signal);
  }
  await draft.finish(url);
}

/** One request; the bytes it brings are appended. Ends without an error when the body ends, early or not. */
async function attempt(url: string, draft: DraftFile, hub: HubAccess, hooks: DownloadHooks): Promise<void> {
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(new Error(`nothing came for ${hub.stallMs / 1000} s`)), hub.stallMs);
  try {
    // A range is of the bytes themselves, never of a compressed form.
    const headers = {
      ...hub.headers,
      'accept-encoding': 'identity',
      ...(draft.bytes > 0 ? { range: `bytes=${draft.bytes}-` } : {}),
    };
    const response = await fetch(url, { headers, signal: AbortSignal.any([hooks.signal, stall.signal]) });
    if (response.status === 416) {
      await draft.restart();
      throw new Error(`the server has no byte ${draft.bytes} of it`);
    }
    if (!response.ok) throw await hubError(response, url, hub);
    if (!(await placed(response, draft))) throw new Error('the server sent another range than the one asked for');
    for await (const chunk of response.body ?? []) {
      timer.refresh();
      await draft.write(chunk);
      hooks.onBytes(draft.bytes);
    }
  } catch (error) {
    throw stall.signal.aborted ? stall.signal.reason : error;
  } finally {
    clearTimeout(timer);
  }
}

/** Whether the body begins where the draft ends; a server that knows no ranges sends the whole, which starts it over. */
async function placed(response: Response, draft: DraftFile): Promise<boolean> {
  if (response.status !== 206) {
    if (draft.bytes > 0) await draft.restart();
    return true;
  }
  const [, first, size] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '') ?? [];
  return Number(first) === draft.bytes && (size === '*' || Number(size) === draft.spec.size);
}

function describe(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}
