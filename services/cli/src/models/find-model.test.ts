import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BUILT_IN_MODELS } from '../paths.ts';
import { locateModel } from './find-model.ts';
import { hubCacheModels } from './hub-cache.ts';
import { parseHubRef } from './hub-ref.ts';
import { inspect } from './inspect.ts';
import type { ModelPlaces } from './model-places.ts';
import { ollamaModels } from './ollama-cache.ts';
import { readCatalogue } from './catalogue.ts';
import { ModelStore } from './store.ts';

const DIGEST = 'a'.repeat(64);
const COMMIT = 'b'.repeat(40);
let folder: string;
let places: ModelPlaces;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-places-'));
  const [ollama, hubCache] = [join(folder, 'ollama'), join(folder, 'hub')];
  places = {
    store: new ModelStore(join(folder, 'store')),
    catalogue: readCatalogue(),
    hubCache,
    ollama: [join(folder, 'none'), ollama],
  };
  const manifest = (mediaType: string) =>
    JSON.stringify({ schemaVersion: 2, layers: [{ mediaType, digest: `sha256:${DIGEST}`, size: 4 }] });
  const model = 'application/vnd.ollama.image.model';
  write(join(ollama, 'blobs', `sha256-${DIGEST}`), 'GGUF');
  write(join(ollama, 'manifests/registry.ollama.ai/library/llama3.2/3b'), manifest(model));
  write(join(ollama, 'manifests/registry.ollama.ai/library/llama3.2/latest'), manifest(model));
  write(join(ollama, 'manifests/registry.ollama.ai/somebody/other/1b'), manifest(model));
  write(join(ollama, 'manifests/hf.co/acme/tiny-GGUF/Q4_K_M'), manifest(model));
  write(join(ollama, 'manifests/registry.ollama.ai/library/embedding/latest'), manifest('application/vnd.ollama.image.tensor'));
  write(join(ollama, 'manifests/registry.ollama.ai/library/broken/latest'), '{"layers": [');
  write(
    join(ollama, 'manifests/registry.ollama.ai/library/escaping/latest'),
    manifest(model).replace(DIGEST, `${'../'.repeat(21)}a`),
  );

  const snapshot = join(hubCache, 'models--acme--tiny/snapshots', COMMIT);
  write(join(hubCache, 'models--acme--tiny/refs/main'), COMMIT);
  for (const file of ['config.json', 'model.safetensors']) {
    write(join(hubCache, 'models--acme--tiny/blobs', file), '{}');
    mkdirSync(snapshot, { recursive: true });
    symlinkSync(join('../../blobs', file), join(snapshot, file));
  }
  write(join(hubCache, 'models--acme--gguf/refs/main'), COMMIT);
  write(join(hubCache, 'models--acme--gguf/snapshots', COMMIT, 'a.Q8_0.gguf'), 'GGUF');
  write(join(hubCache, 'models--acme--unfinished/refs/main'), COMMIT);
  write(join(hubCache, 'datasets--acme--data/refs/main'), COMMIT);
  write(join(hubCache, 'models--acme--lost/refs/main'), '../../../../etc');
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

const located = (word: string): unknown => {
  const found = locateModel(word, folder, places);
  return found.kind === 'here' ? [found.model.name, found.model.path.replace(`${folder}/`, '')] : found.kind;
};

test("Ollama's models go by Ollama's names; what has no GGUF file there is not listed", () => {
  expect(ollamaModels(places.ollama).map(({ name }) => name)).toEqual([
    'hf.co/acme/tiny-GGUF:Q4_K_M',
    'llama3.2:3b',
    'llama3.2:latest',
    'somebody/other:1b',
  ]);
  expect(located('llama3.2:3b')).toEqual(['llama3.2:3b', `ollama/blobs/sha256-${DIGEST}`]);
  expect(located('llama3.2')).toEqual(['llama3.2:latest', `ollama/blobs/sha256-${DIGEST}`]);
  expect(ollamaModels([join(folder, 'none')])).toEqual([]);
});

test("the cache of Hugging Face's clients is used as it is", () => {
  expect(hubCacheModels(places.hubCache).map(({ name }) => name)).toEqual(['hf:acme/gguf/a.Q8_0.gguf', 'hf:acme/tiny']);
  expect(located('hf:acme/tiny')).toEqual(['acme/tiny', `hub/models--acme--tiny/snapshots/${COMMIT}`]);
  expect(located(`hf:acme/tiny@${COMMIT}`)).toEqual(['acme/tiny', `hub/models--acme--tiny/snapshots/${COMMIT}`]);
  expect(located('hf:acme/gguf/a.Q8_0.gguf')).toEqual(['a.Q8_0', `hub/models--acme--gguf/snapshots/${COMMIT}/a.Q8_0.gguf`]);
  expect(located('hf:acme/gguf')).toEqual(['acme/gguf', `hub/models--acme--gguf/snapshots/${COMMIT}/a.Q8_0.gguf`]);
  for (const absent of ['hf:acme/unfinished', 'hf:acme/lost', 'hf:acme/tiny@v2', 'hf:acme/gguf/b.gguf'])
    expect(located(absent)).toBe('pullable');
});

test('built-in models, paths and names of the catalogue', () => {
  write(join(folder, 'My.Model.gguf'), 'GGUF');
  expect(located('tiny-moe')).toEqual(['tiny-moe', join(BUILT_IN_MODELS, 'tiny-moe')]);
  expect(located('./My.Model.gguf')).toEqual(['My.Model', 'My.Model.gguf']);
  expect(located('smollm2-135m-instruct')).toBe('pullable');
  expect(() => located('catalogue.json')).toThrow(/there is no model "catalogue.json".*models lists what there is/);
});

test.each([
  'hf:',
  'hf:a',
  'hf:a/b@',
  'hf:a/../c',
  'hf:a/b/../c.gguf',
  'hf:a/b/',
  'hf:../b',
  'hf:a--b/c',
  'hf:a/b/c\n.gguf',
  'hf:a/b@x/../y',
])('%j is no repository', (text) => {
  expect(() => parseHubRef(text)).toThrow(/is no repository: write hf:OWNER\/REPO/);
});

test('a checkpoint is looked into without being loaded, and one that cannot be served says why', async () => {
  expect(await inspect(join(BUILT_IN_MODELS, 'tiny-moe'))).toEqual({
    format: 'safetensors',
    architecture: 'deepseek_v3',
    quantisation: 'BF16',
    bytes: 8_250_336,
  });
  expect((await inspect(join(folder, 'ollama/blobs', `sha256-${DIGEST}`))).problem).toMatch(/truncated/);
  expect((await inspect(join(folder, 'nothing'))).problem).toMatch(/does not exist/);
});
