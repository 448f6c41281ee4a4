import { describe, expect, it } from 'vitest';
import { TokenStream } from './token-stream.ts';

const token = (position: number) => ({ id: position, position, logprob: 0 });

describe('TokenStream', () => {
  it('delivers what was pushed before an error, then the error once', async () => {
    const stream = new TokenStream(() => undefined);
    stream.push(token(0));
    stream.end(new Error('lost'));
    stream.push(token(1));
    expect(await stream.next()).toEqual({ value: token(0), done: false });
    await expect(stream.next()).rejects.toThrow('lost');
    expect(await stream.next()).toEqual({ value: undefined, done: true });
  });

  it('wakes a reader who waits, with tokens and with the end', async () => {
    const stream = new TokenStream(() => undefined);
    const both = [stream.next(), stream.next()];
    stream.push(token(0));
    stream.end();
    expect(await Promise.all(both)).toEqual([
      { value: token(0), done: false },
      { value: undefined, done: true },
    ]);
  });

  it('tells when the reader stops early, and ends once', async () => {
    let returned = 0;
    let ended = 0;
    const stream = new TokenStream(() => returned++);
    stream.onEnd = () => ended++;
    stream.push(token(0));
    stream.push(token(1));
    for await (const _ of stream) break;
    stream.end(new Error('late'));
    expect([returned, ended]).toEqual([1, 1]);
    expect(await stream.next()).toEqual({ value: undefined, done: true });
  });
});
