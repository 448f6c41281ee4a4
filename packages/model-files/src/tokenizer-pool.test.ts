import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { refusal, TINY_MOE } from './testing/scratch.ts';
import { INLINE_BYTES, TokenizerPool } from './tokenizer-pool.ts';
import { huggingFaceTokenizerSource } from './tokenizer-source.ts';

const source = huggingFaceTokenizerSource(TINY_MOE)!;
const long = 'Tell me a story about the 12 foxes of Zürich 😀. '.repeat(40);
/** Takes a thread a good while: one word of 200,000 letters. */
const slow = 'abcdefghij'.repeat(20_000);

describe('TokenizerPool', () => {
  let pool: TokenizerPool;
  beforeAll(async () => {
    pool = await TokenizerPool.start({ source, threads: 2 });
  });
  afterAll(() => pool?.[Symbol.asyncDispose]());

  it('gives the ids of the tokenizer for short and long texts and chats, many at once', async () => {
    const texts = ['', 'hi', 'x'.repeat(INLINE_BYTES), 'x'.repeat(INLINE_BYTES + 1), long, long.slice(7)];
    const found = await Promise.all(texts.map((text) => pool.encode(text)));
    expect(found.map((ids) => Array.from(ids))).toEqual(texts.map((text) => pool.tokenizer.encode(text)));
    for (const content of ['hi', long]) {
      const messages = [{ role: 'user', content }];
      expect(Array.from(await pool.encodeChat(messages))).toEqual(pool.tokenizer.encodeChat(messages));
    }
  });

  it('keeps the event loop turning meanwhile', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await pool.encode(slow);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
  });

  it('has no jobs of its own kind when its threads have none', async () => {
    expect(await refusal(() => pool.run('anything'))).toMatchObject({ code: 'internal' });
    expect((await pool.encode(long)).length).toBeGreaterThan(100);
  });

  it('renders in a thread what may take long: tools, variables, and templates that are slow', async () => {
    const message = { role: 'user', content: 'hi' };
    const showing = '{% for t in tools %}{{ t.function.name }}{% endfor %}{{ x }}{{ messages[0].content }}';
    await using pool = await TokenizerPool.start({ source: { ...source, chatTemplate: showing } });
    const tools = [{ type: 'function', function: { name: 'probe_tool' } }];
    const text = (ids: ArrayLike<number>) => pool.tokenizer.decodeAll(Array.from(ids));
    expect(text(await pool.encodeChat([message], { tools, variables: { x: ' 7 ' } }))).toBe('probe_tool 7 hi');
    // Only one message makes it slow: it is stopped beside the event loop, then in the thread.
    const loop =
      "{% if messages[0].content == 'slow' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}";
    await using slow = await TokenizerPool.start({ source: { ...source, chatTemplate: `${loop}{{ messages[0].content }}` } });
    const start = performance.now();
    const failing = slow.encodeChat([{ role: 'user', content: 'slow' }]);
    expect(performance.now() - start).toBeLessThan(2000);
    expect(await refusal(() => failing)).toMatchObject({ reason: 'bad_request', field: 'messages' });
    expect((await slow.encodeChat([message])).length).toBeGreaterThan(0);
  });

  it("passes the tokenizer's own errors through", async () => {
    await using strict = await TokenizerPool.start({ source: { ...source, chatTemplate: "{{ raise_exception('no') }}" } });
    for (const content of ['hi', long]) {
      const error = await refusal(() => strict.encodeChat([{ role: 'user', content }]));
      expect(error).toMatchObject({ code: 'invalid_argument', reason: 'bad_request', field: 'messages' });
    }
    expect((await strict.encode(long)).length).toBeGreaterThan(100);
  });
});

describe('TokenizerPool under pressure', () => {
  it('refuses more than may wait, and says when to come again', async () => {
    await using pool = await TokenizerPool.start({ source, maxQueued: 1 });
    const running = pool.encode(slow);
    const waiting = pool.encode(long);
    expect(pool.queued).toBe(1);
    const error = await refusal(() => pool.encode(long));
    expect(error).toMatchObject({ code: 'resource_exhausted', reason: 'queue_full', retry: 'same', retryAfterSeconds: 1 });
    expect(Array.from(await pool.encode('hi'))).toEqual(pool.tokenizer.encode('hi'));
    await Promise.all([running, waiting]);
    expect(pool.queued).toBe(0);
  });

  it("gives up with the signal's reason: before, while waiting and while running", async () => {
    await using pool = await TokenizerPool.start({ source });
    await expect(pool.encode(long, AbortSignal.abort(new Error('before')))).rejects.toThrow('before');
    const [run, wait] = [new AbortController(), new AbortController()];
    const running = pool.encode(slow, run.signal);
    const waiting = pool.encode(long, wait.signal);
    const last = pool.encode(long);
    wait.abort(new Error('waiting'));
    await expect(waiting).rejects.toThrow('waiting');
    expect(pool.queued).toBe(1);
    run.abort(new Error('running'));
    await expect(running).rejects.toThrow('running');
    expect(Array.from(await last)).toEqual(pool.tokenizer.encode(long));
  });

  it('counts bytes, not characters: text without Latin letters takes longest', async () => {
    await using pool = await TokenizerPool.start({ source });
    const running = pool.encode(slow);
    const inline = pool.encode('x'.repeat(INLINE_BYTES));
    expect(pool.queued).toBe(0);
    const queued = [
      pool.encode('語'.repeat(INLINE_BYTES / 2)),
      pool.encodeChat([{ role: 'user', content: '語'.repeat(INLINE_BYTES / 2) }]),
    ];
    expect(pool.queued).toBe(2);
    await Promise.all([running, inline, ...queued]);
  });

  it('ends a thread whose job nobody wants, and goes on with another', async () => {
    await using pool = await TokenizerPool.start({ source });
    const gone = new AbortController();
    const huge = pool.encode(slow.repeat(20), gone.signal);
    gone.abort(new Error('gone'));
    await expect(huge).rejects.toThrow('gone');
    expect(Array.from(await pool.encode(long))).toEqual(pool.tokenizer.encode(long));
    expect(pool.replaced).toBe(1);
  });

  it('keeps the thread of a job that was given up but ends soon', async () => {
    await using pool = await TokenizerPool.start({ source });
    const gone = new AbortController();
    const short = pool.encode(long, gone.signal);
    gone.abort(new Error('gone'));
    await expect(short).rejects.toThrow('gone');
    // Busy with another job when the first one's time is up.
    for (const start = performance.now(); performance.now() - start < 1500; ) await pool.encode(slow);
    expect(pool.replaced).toBe(0);
  });

  it('fails what runs and waits when it is disposed, and takes nothing more', async () => {
    const pool = await TokenizerPool.start({ source });
    const jobs = Promise.allSettled([pool.encode(slow), pool.encode(long)]);
    await Promise.all([pool[Symbol.asyncDispose](), pool[Symbol.asyncDispose]()]);
    expect((await jobs).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect((await refusal(() => pool.encode('hi'))).reason).toBe('draining');
  });

  it('does not start with a tokenizer that cannot be used', async () => {
    expect((await refusal(() => TokenizerPool.start({ source: { ...source, tokenizer: {} } }))).reason).toBe(
      'unsupported_format',
    );
  });
});
