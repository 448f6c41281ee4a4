/** Vocabularies of both common kinds, for tests. */
import { fileURLToPath } from 'node:url';
import { loadTokenizer, openCheckpoint, type Tokenizer, type TokenizerSource } from '@causeway/model-files';
import { packTokens, type TokenBytes } from '../vocabulary.ts';

const TINY_MOE = fileURLToPath(new URL('../../../../models/tiny-moe', import.meta.url));
const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const PIECES = [
  '▁',
  '▁▁',
  '▁▁▁▁',
  '{"',
  '":',
  '",',
  '▁"',
  '"}',
  '}]',
  'a',
  'b',
  'ab',
  'true',
  'fal',
  'se',
  'null',
  '▁{',
  '12',
  '0',
  '-',
  'é',
  '日本',
  '"\\',
  '\\n',
  'tag',
];

/** As of Llama 2: pieces with U+2581 for spaces, a token for each byte. */
const SENTENCE_PIECE: TokenizerSource = {
  tokenizer: {
    added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      unk_token: '<unk>',
      vocab: Object.fromEntries(['<unk>', '<s>', '</s>', ...BYTES, ...PIECES].map((piece, id) => [piece, id])),
      merges: [],
    },
  },
  config: {},
  chatTemplate: undefined,
};

export interface TestTokenizer {
  tokenizer: Tokenizer;
  tokens: TokenBytes;
  /** Ends answers. */
  end: number;
}

function packed(tokenizer: Tokenizer, end: number): TestTokenizer {
  const tokens = packTokens(
    tokenizer.vocabSize,
    (id) => tokenizer.tokenBytes(id),
    (id) => tokenizer.isAdded(id),
  );
  return { tokenizer, tokens, end };
}

export async function testTokenizer(kind: 'byte-level' | 'SentencePiece'): Promise<TestTokenizer> {
  if (kind === 'SentencePiece') return packed(loadTokenizer(SENTENCE_PIECE), 2);
  using checkpoint = await openCheckpoint(TINY_MOE);
  return packed(loadTokenizer(checkpoint.tokenizerSource as TokenizerSource), 2);
}
