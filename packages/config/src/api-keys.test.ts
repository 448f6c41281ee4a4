import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readApiKeys } from './api-keys.ts';

const folder = mkdtempSync(join(tmpdir(), 'api-keys-'));
const file = join(folder, 'keys');
afterAll(() => rmSync(folder, { recursive: true }));

describe('readApiKeys', () => {
  it('takes those of the list and of the file, each once', () => {
    writeFileSync(file, 'one\r\n\n  three \n');
    expect(readApiKeys({ list: 'one, two,', file })).toEqual(['one', 'two', 'three']);
    expect(readApiKeys({ list: undefined, file })).toEqual(['one', 'three']);
    expect(readApiKeys({ list: undefined, file: undefined })).toEqual([]);
  });

  it.each([
    [{ list: ' , ', file: undefined }, 'CAUSEWAY_API_KEYS holds no key'],
    [{ list: 'good,se cret', file: undefined }, 'CAUSEWAY_API_KEYS: key 2 must be'],
    [{ list: 'schlüssel', file: undefined }, 'key 1 must be'],
    [{ list: 'x'.repeat(257), file: undefined }, 'key 1 must be'],
    [{ list: 'good', file: join(folder, 'absent') }, 'ENOENT'],
    [{ list: 'good', file: folder }, 'EISDIR'],
  ])('refuses %j, showing no key', (sources, message) => {
    const read = () => readApiKeys(sources);
    expect(read).toThrow(expect.objectContaining({ reason: 'bad_config', message: expect.stringContaining(message) }));
    expect(read).not.toThrow(/se cret|schl/);
  });

  it('refuses an empty file: it was meant to hold keys', () => {
    writeFileSync(file, '\n');
    expect(() => readApiKeys({ list: 'good', file })).toThrow('holds no key');
  });
});
