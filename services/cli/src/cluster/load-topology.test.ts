import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ServiceError } from '@causeway/errors';
import { afterAll, expect, test } from 'vitest';
import { loadTopology } from './load-topology.ts';

const folder = mkdtempSync(join(tmpdir(), 'causeway-topology-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a chat template is looked for beside the topology file; one that is not there is an error that names both', () => {
  const file = join(folder, 'cluster.yaml');
  const topology = (template: string): string =>
    `version: 1\npools:\n  - {name: r, role: router, chatTemplate: ${template}}\n  - {name: d, role: decode}\n`;
  writeFileSync(join(folder, 'chat.jinja'), '{{ messages[0].content }}');
  writeFileSync(file, topology('chat.jinja'));
  expect(loadTopology(file).pools[0]).toMatchObject({ chatTemplate: join(folder, 'chat.jinja') });

  writeFileSync(file, topology('/nowhere/chat.jinja'));
  const refusal = (() => {
    try {
      return loadTopology(file);
    } catch (error) {
      return error;
    }
  })();
  expect(refusal).toBeInstanceOf(ServiceError);
  expect(refusal).toMatchObject({ reason: 'file_unreadable', message: expect.stringContaining('/nowhere/chat.jinja') });
  expect((refusal as ServiceError).message).toContain('pool r');
});
