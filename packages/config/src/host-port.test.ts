import { expect, test } from 'vitest';
import { hostPort } from './index.ts';

test.each([
  ['127.0.0.1', '127.0.0.1:8000'],
  ['prefill-1.cluster', 'prefill-1.cluster:8000'],
  ['::1', '[::1]:8000'],
  ['[fd00::2]', '[fd00::2]:8000'],
])('%s with a port is %s', (host, expected) => {
  expect(hostPort(host, 8000)).toBe(expected);
  expect(URL.canParse(`http://${expected}`)).toBe(true);
});
