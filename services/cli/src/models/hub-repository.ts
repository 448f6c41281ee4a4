import { fail } from '@causeway/errors';
import { z } from 'zod';
import type { Digest } from './digest.ts';
import { type HubAccess, hubError, readAtMost } from './hub-access.ts';
import { formatHubRef, type HubRef, isPlainPath } from './hub-ref.ts';

/** A file of a repository at one commit. */
export interface HubFile {
  /** Path in the repository. */
  readonly path: string;
  readonly size: number;
  readonly digest: Digest;
  readonly url: string;
}

export interface HubRepository {
  /** The commit that the revision means now; all files are of it. */
  readonly commit: string;
  readonly files: readonly HubFile[];
}

const MOST_BYTES = 64 * 1024 * 1024;
const ASK_MS = 60_000;

const sibling = z.object({
  rfilename: z.string(),
  size: z.int().min(0).nullish(),
  blobId: z
    .string()
    .regex(/^[0-9a-f]{40}$/)
    .nullish(),
  lfs: z.object({ sha256: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().min(0) }).nullish(),
});
/** `GET /api/models/OWNER/REPO/revision/REVISION?blobs=true` (huggingface.co/docs/hub/api), the fields that are read. */
const modelInfo = z.object({ sha: z.string().regex(/^[0-9a-f]{40}$/), siblings: z.array(sibling) });

/**
 * Asks the hub for a repository's files. Those without size or hash, and those whose path leaves the folder, are left out.
 * @throws ServiceError `file_unreadable` (private, gated or absent), `not_found`, `dependency_unavailable` when the hub does not answer
 */
export async function readHubRepository(ref: HubRef, hub: HubAccess, signal: AbortSignal): Promise<HubRepository> {
  const { owner, repo, revision = 'main' } = ref;
  const url = `${hub.endpoint}/api/models/${owner}/${repo}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const either = AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]);
  let text: string;
  try {
    const response = await fetch(url, { headers: hub.headers, signal: either });
    if (!response.ok) throw await hubError(response, url, hub);
    text = (await readAtMost(response, MOST_BYTES)).toString('utf8');
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof TypeError || either.aborted) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
      const advice = 'is there a network? A mirror can be named with HF_ENDPOINT';
      fail('unavailable', 'dependency_unavailable', `the hub ${hub.endpoint} cannot be reached (${cause}): ${advice}`, {
        cause: error,
      });
    }
    throw error;
  }
  const { sha, siblings } = parsed(text, url);
  const files = siblings.flatMap(({ rfilename: path, size, blobId, lfs }): HubFile[] => {
    if (!isPlainPath(path)) return [];
    const at = `${hub.endpoint}/${owner}/${repo}/resolve/${sha}/${path.split('/').map(encodeURIComponent).join('/')}`;
    if (lfs) return [{ path, size: lfs.size, digest: { algorithm: 'sha256', hex: lfs.sha256 }, url: at }];
    return size == null || blobId == null ? [] : [{ path, size, digest: { algorithm: 'git-sha1', hex: blobId }, url: at }];
  });
  if (files.length === 0) fail('not_found', 'not_found', `${formatHubRef(ref)} has no files that can be verified`);
  return { commit: sha, files };
}

function parsed(text: string, url: string): z.infer<typeof modelInfo> {
  try {
    return modelInfo.parse(JSON.parse(text));
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error).split('\n')[0] : (error as Error).message.slice(0, 200);
    return fail('data_loss', 'malformed_file', `${url} is no description of a repository: ${why}`, { cause: error });
  }
}
