/** A server that answers as a Hugging Face hub does: the description of a repository, and files by redirect to another origin with ranges. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeHub extends AsyncDisposable {
  readonly url: string;
  /** Requests that came, oldest first. `hub` is asked by name, `cdn` has the bytes. */
  readonly requests: readonly HubRequest[];
  behave: HubBehaviour;
  /** Replaces a file's bytes on the file server alone: what the hub says of it stays. */
  tamper(path: string, bytes: Uint8Array): void;
}

export interface HubRequest {
  readonly at: 'hub' | 'cdn';
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

export interface HubBehaviour {
  /** Bytes after which a connection to the file server is cut, once per entry. */
  cutAfter?: number[];
  /** The file server says nothing more after so many bytes, once per entry. */
  stallAfter?: number[];
  /** The file server does not know ranges. */
  noRanges?: boolean;
  /** Answers of the file server before it serves: status and headers, once per entry. */
  refuse?: { status: number; headers?: Record<string, string> }[];
  /** The token that the hub wants. */
  token?: string;
  /** What the description of a repository is, instead of the truth. */
  description?: string;
  /** The file server sends this after the file's end, without a length. */
  surplus?: Uint8Array;
}

const COMMIT = 'c'.repeat(40);

/** @param files of the one repository `acme/tiny`, by path; weight files are announced as LFS files, others as git blobs */
export async function startFakeHub(files: Readonly<Record<string, Uint8Array>>): Promise<FakeHub> {
  const requests: HubRequest[] = [];
  const stored = new Map(Object.entries(files));
  const hub: { behave: HubBehaviour } = { behave: {} };
  const note = (at: HubRequest['at'], { url = '', headers }: IncomingMessage): void => {
    requests.push({ at, path: decodeURIComponent(url), range: headers.range, authorization: headers.authorization });
  };
  const cdn = createServer((request, response) => {
    note('cdn', request);
    serveBytes(request, response, stored, hub.behave);
  });
  const cdnUrl = await listen(cdn);
  const api = createServer((request, response) => {
    note('hub', request);
    const { token, description } = hub.behave;
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      response
        .writeHead(401, { 'x-error-code': 'GatedRepo', 'x-error-message': 'Access to model acme/tiny is restricted.' })
        .end();
      return;
    }
    const path = decodeURIComponent(request.url ?? '');
    const file = /^\/acme\/tiny\/resolve\/c{40}\/(.+)$/.exec(path)?.[1];
    if (path === '/api/models/acme/tiny/revision/main?blobs=true') {
      response.setHeader('content-type', 'application/json').end(description ?? JSON.stringify(describe(files)));
    } else if (file !== undefined && stored.has(file)) {
      response.writeHead(302, { location: `${cdnUrl}/blob/${file}?signature=x`, 'x-repo-commit': COMMIT }).end();
    } else response.writeHead(404, { 'content-type': 'text/plain' }).end('Entry not found');
  });
  const url = await listen(api);
  return {
    url,
    requests,
    get behave() {
      return hub.behave;
    },
    set behave(value) {
      hub.behave = value;
    },
    tamper: (path, bytes) => void stored.set(path, bytes),
    [Symbol.asyncDispose]: async () => {
      for (const server of [api, cdn]) {
        server.closeAllConnections();
        server.close();
        await once(server, 'close');
      }
    },
  };
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** What the hub says of a repository's files. */
export function describe(files: Readonly<Record<string, Uint8Array>>): object {
  const siblings = Object.entries(files).map(([rfilename, bytes]) => {
    const size = bytes.byteLength;
    const blobId = createHash('sha1').update(`blob ${size}\0`).update(bytes).digest('hex');
    const lfs = { sha256: createHash('sha256').update(bytes).digest('hex'), size, pointerSize: 134 };
    return /\.(gguf|safetensors)$/.test(rfilename)
      ? { rfilename, size, blobId: 'f'.repeat(40), lfs }
      : { rfilename, size, blobId };
  });
  return { id: 'acme/tiny', sha: COMMIT, gated: false, siblings };
}

function serveBytes(
  request: IncomingMessage,
  response: ServerResponse,
  stored: ReadonlyMap<string, Uint8Array>,
  behave: HubBehaviour,
): void {
  const refusal = behave.refuse?.shift();
  if (refusal !== undefined) {
    response.writeHead(refusal.status, refusal.headers).end();
    return;
  }
  const whole = stored.get(/^\/blob\/(.+)\?/.exec(decodeURIComponent(request.url ?? ''))?.[1] ?? '') ?? new Uint8Array(0);
  const from = behave.noRanges === true ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (from >= whole.byteLength && from > 0) {
    response.writeHead(416, { 'content-range': `bytes */${whole.byteLength}` }).end();
    return;
  }
  const body = whole.subarray(from);
  const length = behave.surplus === undefined ? { 'content-length': body.byteLength } : {};
  if (from > 0) {
    response.writeHead(206, { ...length, 'content-range': `bytes ${from}-${whole.byteLength - 1}/${whole.byteLength}` });
  } else response.writeHead(200, { ...length, 'accept-ranges': 'bytes' });
  const cut = behave.cutAfter?.shift();
  const stall = behave.stallAfter?.shift();
  if (cut !== undefined) response.write(body.subarray(0, cut), () => response.destroy());
  else if (stall !== undefined) response.write(body.subarray(0, stall));
  else response.end(behave.surplus === undefined ? body : Buffer.concat([body, behave.surplus]));
}
