import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { tokenBytesOf } from './token-bytes.ts';
import { loadTokenizer } from './tokenizer.ts';
import type { TokenizerSource } from './tokenizer-source.ts';

const MODEL = fileURLToPath(new URL('../../../models/tiny-moe', import.meta.url));

describe('bytes of tokens', () => {
  it('together are the text, whatever the text', async () => {
    using checkpoint = await openCheckpoint(MODEL);
    const tokenizer = loadTokenizer(checkpoint.tokenizerSource as TokenizerSource);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (text) => {
        const bytes = tokenizer.encodeRendered(text).map((id) => tokenizer.tokenBytes(id) as Uint8Array);
        expect(Buffer.concat(bytes).toString()).toBe(text);
      }),
    );
    expect(tokenizer.tokenBytes(1 << 30)).toBeUndefined();
  });

  it('of SentencePiece tokens are their text with spaces, or the byte they stand for', () => {
    const decoder = { type: 'Sequence', decoders: [{ type: 'Replace' }, { type: 'ByteFallback' }, { type: 'Fuse' }] };
    const source = { tokenizer: { decoder, added_tokens: [{ id: 2 }] }, config: {} } as unknown as TokenizerSource;
    const texts = ['\u2581the', '<0xE2>', '<0x0A>'];
    const of = tokenBytesOf(
      source,
      (id) => texts[id],
      () => '',
    );
    expect([0, 1].map((id) => [...(of(id) ?? [])])).toEqual([[...Buffer.from(' the')], [0xe2]]);
    // An added token is what it says.
    expect(Buffer.from(of(2) ?? []).toString()).toBe('<0x0A>');
  });
});
