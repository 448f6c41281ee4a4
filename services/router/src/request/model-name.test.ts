import { inferenceV1 } from '@causeway/proto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { modelNameIn } from './model-name.ts';

const inBody = (text: string) => modelNameIn('chat', Buffer.from(text));

describe('the model of a JSON body', () => {
  it.each([
    ['{"model": "a"}', 'a'],
    ['\n {"messages":[{"role":"user","content":"\\"model\\":\\"x\\" {["}],"model":"a/b:c"}', 'a/b:c'],
    ['{"m\\u006fdel":"\\u0061 \\\\ \\" é"}', 'a \\ " é'],
    ['{"model":"a","model":"b"}', 'b'],
    ['{"x":{"model":"inner"},"y":["model","z"],"model":"a"}', 'a'],
    ['{"x":"\\\\","model":"a"}', 'a'],
  ])('%s', async (text, model) => {
    expect(await inBody(text)).toEqual({ kind: 'named', model });
    expect(JSON.parse(text)).toMatchObject({ model });
  });

  it('is absent where none is named, at the outermost level', async () => {
    for (const text of ['{}', '{"x":{"model":"a"}}', '{"prompt":"model"}', '{"models":"a"}']) {
      expect(await inBody(text)).toEqual({ kind: 'absent' });
    }
  });

  it('cannot be read in what is no request, or is no text', async () => {
    for (const text of [
      '',
      ' ',
      '[]',
      '"model"',
      '{',
      '{"model":"a"',
      '{"model',
      '{"model":7}',
      '{"model":null}',
      '{"model":"a","model":{}}',
      `{"model":"${'x'.repeat(4000)}"}`,
      '{"model":"\\q"}',
    ]) {
      expect(await inBody(text), text).toEqual({ kind: 'unreadable' });
    }
  });

  it('is what JSON.parse finds', async () => {
    const body = fc
      .tuple(
        fc.dictionary(fc.oneof(fc.string({ unit: 'binary' }), fc.constant('model')), fc.jsonValue()),
        fc.string({ unit: 'binary', maxLength: 50 }),
      )
      .map(([other, model]) => ({ before: other, model, after: other }));
    await fc.assert(
      fc.asyncProperty(body, fc.boolean(), async (value, spaced) => {
        const text = JSON.stringify(value, undefined, spaced ? 2 : 0);
        // A lone surrogate has no UTF-8: it is the replacement character on both ways.
        const { model } = JSON.parse(Buffer.from(text).toString()) as { model: string };
        expect(await inBody(text)).toEqual({ kind: 'named', model });
      }),
    );
  });

  it('leaves the event loop its turns in a body made to be slow', async () => {
    for (const piece of ['\\"', '[],', '"",', ' ', '\\\\']) {
      const filler = piece.repeat(4_000_000 / piece.length);
      const text = piece.startsWith('\\') ? `{"x":"${filler}","model":"a"}` : `{"x":[${filler}0],"model":"a"}`;
      let turns = 0;
      let counting = true;
      const count = (): void => {
        turns++;
        if (counting) setImmediate(count);
      };
      setImmediate(count);
      expect(await inBody(text)).toEqual({ kind: 'named', model: 'a' });
      counting = false;
      // Every 2 ms, of some tens.
      expect(turns, piece).toBeGreaterThan(4);
    }
  });
});

describe('the model of a message', () => {
  const encode = (request: Parameters<typeof inferenceV1.GenerateRequest.fromPartial>[0]) =>
    inferenceV1.GenerateRequest.encode(inferenceV1.GenerateRequest.fromPartial(request)).finish();
  const input = { $case: 'prompt' as const, value: 'x'.repeat(300) };
  const sampling = { temperature: 0.5, seed: 2n ** 63n };

  it('is found between other fields, last one first', async () => {
    const first = encode({ model: 'a/b', input, sampling, maxTokens: 300, stopTokenIds: [1, 70_000] });
    expect(await modelNameIn('generate', first)).toEqual({ kind: 'named', model: 'a/b' });
    const second = Buffer.concat([first, encode({ model: 'é' })]);
    expect(await modelNameIn('generate', second)).toEqual({ kind: 'named', model: 'é' });
    const tokenize = inferenceV1.TokenizeRequest.encode({ model: 't', input: { $case: 'text', value: 'x' } }).finish();
    expect(await modelNameIn('tokenize', tokenize)).toEqual({ kind: 'named', model: 't' });
  });

  it('is absent where none is named', async () => {
    expect(await modelNameIn('generate', encode({ input }))).toEqual({ kind: 'absent' });
    expect(await modelNameIn('generate', new Uint8Array(0))).toEqual({ kind: 'absent' });
  });

  it('cannot be read in bytes that are no message', async () => {
    for (const bytes of [
      [0x0a],
      [0x0a, 5, 1],
      [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
      [0x0b],
      [0x09, 1],
      [0x08],
    ]) {
      expect(await modelNameIn('generate', Uint8Array.from(bytes)), String(bytes)).toEqual({ kind: 'unreadable' });
    }
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => void (await modelNameIn('generate', bytes))),
    );
  });
});
