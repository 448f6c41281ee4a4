import { describe, expect, it } from 'vitest';
import { createApiKeys } from './api-keys.ts';

const keys = createApiKeys(['sk-one', 'sk-two']);

describe('createApiKeys', () => {
  it.each(['Bearer sk-one', 'bearer sk-two', 'BEARER  sk-one '])('takes %j', (header) => {
    expect(() => keys.check(header)).not.toThrow();
  });

  it.each([
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Bearer sk-on',
    'Bearer sk-one2',
    'Bearer sk-one sk-two',
    'Bearer sk-one,sk-two',
    'Bearer SK-ONE',
    'Basic sk-one',
    'sk-one',
    `Bearer ${'x'.repeat(8000)}`,
  ])('refuses %j without repeating it', (header) => {
    const check = () => keys.check(header);
    expect(check).toThrow(expect.objectContaining({ code: 'unauthenticated', reason: 'invalid_api_key' }));
    expect(check).not.toThrow(/sk-/);
  });

  it('takes everybody when there are none', () => {
    expect(() => createApiKeys([]).check(undefined)).not.toThrow();
  });
});
