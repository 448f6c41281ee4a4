import { EventEmitter, once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { LoadSummary } from '../load/load-summary.ts';
import type { RequestRecord } from '../load/timed-request.ts';
import type { Output } from '../terminal/output.ts';
import { benchLoad, type BenchLoadFlags, parseSlo } from './bench-load.ts';

type Script = (response: ServerResponse, body: Record<string, unknown>, request: IncomingMessage) => Promise<void> | void;

let server: Server | undefined;
const folders: string[] = [];
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** An endpoint that answers as scripted. */
async function endpoint(script: Script): Promise<string> {
  server = createServer((request, response) => {
    response.on('error', () => undefined);
    if (request.url === '/v1/models') {
      response.end(JSON.stringify({ data: [{ id: 'scripted' }] }));
      return;
    }
    void json(request).then((body) => script(response, body as Record<string, unknown>, request));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const event = (value: unknown): string => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`;
const piece = (content: string) => ({ choices: [{ delta: { content }, finish_reason: null }] });
const last = { choices: [{ delta: {}, finish_reason: 'length' }] };
const usage = (tokens: number) => ({ choices: [], usage: { prompt_tokens: 40, completion_tokens: tokens } });

/** `tokens` pieces, the first after `firstMs`, each further after `stepMs`. */
function stream(firstMs: number, stepMs: number, tokens: number): Script {
  return async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    await wait(firstMs);
    for (let i = 0; i < tokens; i++) {
      if (i > 0) await wait(stepMs);
      response.write(event(piece('x')));
    }
    response.end(event(last) + event(usage(tokens)) + event('[DONE]'));
  };
}

const DEFAULTS: Omit<BenchLoadFlags, 'url'> = {
  endpoint: 'chat',
  requests: 3,
  promptTokens: 16,
  outputTokens: 5,
  maxPromptTokens: 1000,
  speed: 1,
  ignoreEos: false,
  seed: 1,
  timeout: 20,
};

interface Report {
  interrupted: boolean;
  model: string;
  summary: LoadSummary;
  records: RequestRecord[];
}

async function load(
  url: string,
  flags: Partial<BenchLoadFlags>,
  signals: EventEmitter = new EventEmitter(),
  apiKey?: string,
): Promise<{ code: number; shown: string; report: Report }> {
  const folder = mkdtempSync(join(tmpdir(), 'causeway-load-'));
  folders.push(folder);
  const file = join(folder, 'report.json');
  let shown = '';
  const plain = (text: string): string => text;
  const add = (text = ''): void => void (shown += `${text}\n`);
  const out: Output = { terminal: false, write: add, line: add, warn: add, dim: plain, bold: plain, red: plain };
  const code = await benchLoad({ ...DEFAULTS, url, json: file, ...flags }, { out, signals, apiKey });
  return { code, shown, report: JSON.parse(readFileSync(file, 'utf8')) as Report };
}

describe('bench load against a scripted endpoint', () => {
  it('measures first tokens, gaps and whole answers as they were made', async () => {
    const url = await endpoint(stream(120, 40, 5));
    const { code, report, shown } = await load(url, { goodput: 'ttft:5000,tpot:5000' });
    expect(code).toBe(0);
    const { summary } = report;
    expect(report.model).toBe('scripted');
    expect(summary).toMatchObject({
      promptTokens: 120,
      outputTokens: 15,
      errors: [],
      goodput: { good: 3 },
      tokensEstimated: false,
    });
    expect(summary.itlMs?.count).toBe(12);
    // Timers are never early (to the rounding of a ms); how late a busy machine is, is its own affair.
    expect(summary.ttftMs?.p50).toBeGreaterThan(118);
    expect(summary.tpotMs?.mean).toBeGreaterThan(38);
    expect(summary.e2eMs?.p50).toBeGreaterThan(275);
    // One after another.
    expect(summary.seconds * 1000).toBeGreaterThan(3 * 275);
    for (const { chunkMs, endMs, sentMs } of report.records) {
      expect(chunkMs).toEqual(chunkMs.toSorted((a, b) => a - b));
      expect(endMs).toBeGreaterThanOrEqual(chunkMs.at(-1) as number);
      expect(sentMs).toBeGreaterThanOrEqual(0);
    }
    const { ttftMs, tpotMs, e2eMs } = summary;
    // E2E is TTFT and the time per token of the other four, but for the end of the stream.
    expect((e2eMs?.mean ?? 0) - (ttftMs?.mean ?? 0)).toBeGreaterThanOrEqual(4 * (tpotMs?.mean ?? 0) - 0.01);
    expect(shown).toMatch(/3 of 3 requests completed/);
    expect(shown).toMatch(/time to first token \(TTFT\) +\d/);
    expect(shown).toMatch(/100 % of requests had TTFT ≤ 5000 ms, TPOT ≤ 5000 ms/);
  });

  it('open loop: sends by the clock though no answer comes', async () => {
    let asked = 0;
    const url = await endpoint(async (response) => {
      asked++;
      while (asked < 20) await wait(5);
      await stream(0, 0, 1)(response, {}, {} as IncomingMessage);
    });
    const { report } = await load(url, { rate: 200, requests: 20 });
    expect(report.summary.requests).toMatchObject({ sent: 20, completed: 20 });
    expect(report.summary.lateMs?.count).toBe(20);
  });

  it('closed loop: never more at once than asked for, and that many', async () => {
    let now = 0;
    let most = 0;
    const url = await endpoint(async (response, body, request) => {
      most = Math.max(most, ++now);
      await stream(20, 5, 2)(response, body, request);
      now--;
    });
    await load(url, { concurrency: 4, requests: 12 });
    expect(most).toBe(4);
  });

  it('asks as told: endpoint, model, lengths, key', async () => {
    const asked: { path: string | undefined; body: Record<string, unknown>; key: string | undefined }[] = [];
    const url = await endpoint((response, body, request) => {
      asked.push({ path: request.url, body, key: request.headers.authorization });
      response.end(event({ choices: [{ text: 'x', finish_reason: 'stop' }] }) + event('[DONE]'));
    });
    const { report } = await load(
      `${url}/v1/`,
      { endpoint: 'completions', requests: 1, model: 'mine', ignoreEos: true },
      undefined,
      'secret',
    );
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatchObject({
      path: '/v1/completions',
      key: 'Bearer secret',
      body: { model: 'mine', max_tokens: 5, stream: true, ignore_eos: true, temperature: 0 },
    });
    expect(String(asked[0]?.body['prompt']).split(' ')).toHaveLength(16);
    expect(report.summary).toMatchObject({ outputTokens: 1, tokensEstimated: true });
  });

  const failures: [string, Script, RegExp][] = [
    [
      'an error of OpenAI’s form',
      (r) => void r.writeHead(429).end(JSON.stringify({ error: { message: 'too much' } })),
      /^HTTP 429: too much$/,
    ],
    ['an error page', (r) => void r.writeHead(502).end('<html>bad gateway'), /^HTTP 502: <html>bad gateway$/],
    ['an endless error page', (r) => void r.writeHead(500).end('x'.repeat(3_000_000)), /^HTTP 500: x{300}$/],
    ['a stream that stops', (r) => void r.end(event(piece('x'))), /ended before the answer did/],
    ['a stream cut off', (r) => void r.write(event(piece('x')), () => r.destroy()), /terminated|socket|other side closed/],
    ['no JSON', (r) => void r.end(event('hello')), /something else than JSON: hello/],
    ['other JSON', (r) => void r.end(event({ choices: 'x' })), /something else than an answer/],
    ['an error in the stream', (r) => void r.end(event({ error: { message: 'worker lost' } })), /the stream says: worker lost/],
    ['tokens without text', (r) => void r.end(event(usage(3)) + event('[DONE]')), /counted tokens and no text/],
    ['a body without events', (r) => void r.end('x'.repeat(9_000_000)), /no event in \d+ characters/],
    ['silence', () => undefined, /no complete answer within 0.3 s/],
  ];
  it.each(failures)('says what went wrong and goes on: %s', async (_name, script, wanted) => {
    const url = await endpoint(script);
    const { code, shown, report } = await load(url, { requests: 2, timeout: wanted.source.includes('0.3') ? 0.3 : 20 });
    expect(code).toBe(1);
    expect(report.summary.requests).toMatchObject({ sent: 2, completed: 0, failed: 2 });
    expect(report.summary.errors).toEqual([{ error: expect.stringMatching(wanted), count: 2 }]);
    expect(shown).toContain('2 x ');
  });

  it('Ctrl-C reports what is there', async () => {
    const signals = new EventEmitter();
    let asked = 0;
    const url = await endpoint(async (response, body, request) => {
      if (++asked < 3) return stream(1, 1, 2)(response, body, request);
      setImmediate(() => signals.emit('SIGINT'));
      return undefined;
    });
    const { code, shown, report } = await load(url, { requests: 50 }, signals);
    expect(code).toBe(130);
    expect(report).toMatchObject({
      interrupted: true,
      summary: { requests: { sent: 3, completed: 2, failed: 0, unfinished: 1 } },
    });
    expect(shown).toMatch(/2 of 3 requests completed .* 1 unfinished/);
    expect(signals.listenerCount('SIGINT')).toBe(0);
  });

  it.each<[Partial<BenchLoadFlags>, RegExp]>([
    [{ url: 'localhost:8000' }, /--url is http/],
    [{ url: 'http://127.0.0.1:9' }, /nobody answers at http:\/\/127.0.0.1:9\/v1/],
    [{ rate: 1, concurrency: 2 }, /exclude each other/],
    [{ goodput: 'ttft=3' }, /"ttft=3" is none/],
    [{ trace: '/nowhere.jsonl' }, /cannot be read/],
  ])('refuses %j', async (flags, message) => {
    const url = await endpoint(stream(0, 0, 1));
    await expect(load(url, flags)).rejects.toThrow(message);
  });

  it('refuses an endpoint that wants another key, or lists no models', async () => {
    server = createServer(
      (request, response) => void response.writeHead(request.headers.authorization === undefined ? 401 : 404).end('no'),
    ).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await expect(load(url, {})).rejects.toThrow(/wants another key; set CAUSEWAY_API_KEY/);
    await expect(load(url, {}, undefined, 'k')).rejects.toThrow(/name the model with --model/);
  });
});

describe('parseSlo', () => {
  it('reads limits in milliseconds', () => {
    expect(parseSlo('ttft:500, tpot:12.5')).toEqual({ ttft: 500, tpot: 12.5 });
    for (const text of ['', 'ttft', 'ttft:0', 'ttft:-1', 'ttft:NaN', 'itl:5']) expect(() => parseSlo(text)).toThrow(/--goodput/);
  });
});
