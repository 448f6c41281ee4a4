import { describe, expect, it } from 'vitest';
import { AnswerLogprobs, chunkLogprobs, promptChunkLogprobs, type PromptLogprob, type TokenLogprob } from './logprobs.ts';

const entries: TokenLogprob[] = [
  {
    token: ' "Paris"\n',
    bytes: [32, 34],
    logprob: -0.5,
    offset: 0,
    top: [
      { token: 'x', bytes: [120], logprob: -0.25 },
      { token: 'never', bytes: [110], logprob: Number.NEGATIVE_INFINITY },
    ],
  },
  { token: 'bytes:\\xe2', bytes: [0xe2], logprob: Number.NaN, offset: 9, top: [] },
];

function whole(form: 'chat' | 'completion'): unknown {
  const collected = new AnswerLogprobs(form);
  for (const entry of entries) collected.add(entry);
  return JSON.parse(collected.toJson());
}

describe('log-probabilities of an answer', () => {
  it('have the form of chat answers', () => {
    expect(whole('chat')).toEqual({
      content: [
        {
          token: ' "Paris"\n',
          logprob: -0.5,
          bytes: [32, 34],
          top_logprobs: [
            { token: 'x', logprob: -0.25, bytes: [120] },
            { token: 'never', logprob: -9999, bytes: [110] },
          ],
        },
        { token: 'bytes:\\xe2', logprob: -9999, bytes: [0xe2], top_logprobs: [] },
      ],
      refusal: null,
    });
  });

  it('have the form of completions, the token itself among the likeliest', () => {
    expect(whole('completion')).toEqual({
      tokens: [' "Paris"\n', 'bytes:\\xe2'],
      token_logprobs: [-0.5, -9999],
      top_logprobs: [{ x: -0.25, never: -9999, ' "Paris"\n': -0.5 }, { 'bytes:\\xe2': -9999 }],
      text_offset: [0, 9],
    });
  });

  it.each(['chat', 'completion'] as const)('are the same in the chunks of a %s', (form) => {
    const chunks = entries.map((entry) => chunkLogprobs(form, entry) as Record<string, unknown[]>);
    const joined = Object.fromEntries(
      Object.entries(chunks[0] ?? {}).map(([key, value]) => [key, value && chunks.flatMap((chunk) => chunk[key] ?? [])]),
    );
    expect(joined).toEqual(whole(form));
  });
});

describe('log-probabilities of a prompt', () => {
  const prompt: PromptLogprob[] = [
    { token: 'Once', offset: 0, logprob: undefined, top: [] },
    { token: ' "upon"', offset: 4, logprob: -0.5, top: [{ token: ' a', bytes: [32, 97], logprob: Number.NEGATIVE_INFINITY }] },
  ];
  const json = {
    tokens: ['Once', ' "upon"'],
    token_logprobs: [null, -0.5],
    top_logprobs: [null, { ' a': -9999, ' "upon"': -0.5 }],
    text_offset: [0, 4],
  };

  it('have null for the first token, which nothing comes before', () => {
    expect(promptChunkLogprobs(prompt)).toEqual(json);
  });

  it('come before those of the answer', () => {
    const collected = new AnswerLogprobs('completion');
    for (const entry of prompt) collected.addPrompt(entry);
    expect(JSON.parse(collected.toJson())).toEqual(json);
    collected.add({ token: 'x', bytes: [120], logprob: -2, offset: 11, top: [] });
    expect(JSON.parse(collected.toJson())).toEqual({
      tokens: [...json.tokens, 'x'],
      token_logprobs: [...json.token_logprobs, -2],
      top_logprobs: [...json.top_logprobs, { x: -2 }],
      text_offset: [...json.text_offset, 11],
    });
  });
});
