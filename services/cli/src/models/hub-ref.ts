import { fail } from '@causeway/errors';

/** A repository of models on a Hugging Face hub, or one file of it: `hf:OWNER/REPO[@REVISION][/FILE]`. */
export interface HubRef {
  readonly owner: string;
  readonly repo: string;
  /** Branch, tag or commit; undefined: `main`. */
  readonly revision: string | undefined;
  /** Path in the repository; undefined: what of it can be served. */
  readonly file: string | undefined;
}

export const HUB_PREFIX = 'hf:';
const FORM = /^([^/@]+)\/([^/@]+)(?:@([^/]+))?(?:\/(.+))?$/;
/** As the hub allows them; `--` stands for a slash in its local cache. */
const NAME = /^[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;
const REVISION = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$/;

/** Undefined when the text is of another kind. @throws ServiceError `bad_request` when it begins like one and is none */
export function parseHubRef(text: string): HubRef | undefined {
  if (!text.startsWith(HUB_PREFIX)) return undefined;
  const [, owner = '', repo = '', revision, file] = FORM.exec(text.slice(HUB_PREFIX.length)) ?? [];
  const names = [owner, repo].every((name) => NAME.test(name) && !name.includes('--') && !name.includes('..'));
  if (names && (revision === undefined || REVISION.test(revision)) && (file === undefined || isPlainPath(file)))
    return { owner, repo, revision, file };
  return fail(
    'invalid_argument',
    'bad_request',
    `"${text.slice(0, 200)}" is no repository: write hf:OWNER/REPO, hf:OWNER/REPO/FILE or hf:OWNER/REPO@REVISION/FILE`,
  );
}

export function formatHubRef({ owner, repo, revision, file }: HubRef): string {
  return `${HUB_PREFIX}${owner}/${repo}${revision === undefined ? '' : `@${revision}`}${file === undefined ? '' : `/${file}`}`;
}

/** Whether a path stays inside the folder it is relative to, on every system. */
export function isPlainPath(path: string): boolean {
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  return path.length <= 512 && path.split('/').every((part) => /^[^\\:\u0000-\u001f\u007f]+$/.test(part) && !/^\.+$/.test(part));
}
