/** Sums made on the event loop have the bits of those that ONNX Runtime makes. */
import type { ExpertShape } from '@causeway/models';
import { NativeBuffer, Runtime, Tensor } from '@causeway/ort';
import { expect, test } from 'vitest';
import { AnswerSum } from './answer-sum.ts';
import type { AnswerPart } from './dispatch.ts';
import { frameContent } from './frame-rows.ts';
import { tokensByExpert } from './routed-tokens.ts';

const HIDDEN = 96;
const PER_TOKEN = 4;
const shape: ExpertShape = {
  architecture: 'test',
  layers: [0],
  experts: 8,
  expertsPerToken: PER_TOKEN,
  groups: 1,
  hidden: HIDDEN,
  inner: 1,
};

/** The same rows, answers and choices for any number of tokens: the first ones don't depend on how many follow. */
const noise = (i: number): number => Math.fround(Math.sin(i * 12.9898) * 43.7 + (i % 17 === 0 ? -0 : 0));

function floatTensor(stack: DisposableStack, values: Float32Array): Tensor {
  const buffer = stack.use(NativeBuffer.allocate(values.byteLength));
  buffer.bytes(0, values.byteLength).set(new Uint8Array(values.buffer));
  return stack.use(Tensor.of(buffer, 0, 'f32', [values.length / HIDDEN, HIDDEN]));
}

async function sums(answers: 'pairs' | 'sums', tokens: number): Promise<Uint8Array> {
  using stack = new DisposableStack();
  const rows = Float32Array.from({ length: tokens * HIDDEN }, (_, i) => (i === 5 ? Number.NaN : i === 7 ? -3 : noise(i)));
  const ids = BigInt64Array.from({ length: tokens * PER_TOKEN }, (_, i) =>
    BigInt((Math.floor(i / PER_TOKEN) + 3 * (i % PER_TOKEN)) % 8),
  );
  const routed = tokensByExpert(ids, new Float32Array(ids.length).fill(0.25), PER_TOKEN, shape.experts);
  // Two shards: even experts and odd ones. An answer's numbers depend on the token and expert (or shard) alone.
  const parts = [1, 0].map((odd): AnswerPart => {
    const content = frameContent(
      0,
      routed.filter(({ expert }) => expert % 2 === odd),
    );
    const from =
      answers === 'pairs'
        ? content.experts.flatMap(({ expert, tokens: own }) => own.map((token) => token * 100 + expert))
        : content.tokens.map((token) => token * 100 + 50 + odd);
    const body = Float32Array.from({ length: from.length * HIDDEN }, (_, i) => {
      const seed = (from[Math.floor(i / HIDDEN)] ?? 0) * HIDDEN + (i % HIDDEN);
      return seed % 13 === 0 ? -0 : noise(seed);
    });
    return { content, shard: `s${odd}`, answer: { body: new Uint8Array(body.buffer), queueMs: 0, computeMs: 0, totalMs: 0 } };
  });
  await using runtime = Runtime.create({ threads: 1 });
  await using sum = await AnswerSum.create({ runtime, shape, answers, rowType: 'f32' });
  const output = floatTensor(stack, new Float32Array(tokens * HIDDEN));
  await sum.run(floatTensor(stack, rows), parts, output);
  return output.buffer.bytes(0, output.byteLength).slice();
}

test.each(['pairs', 'sums'] as const)('%s: few tokens and many have the same bits', async (answers) => {
  // 256 tokens are more additions than are made here; 8 are fewer.
  const [few, many] = [await sums(answers, 8), await sums(answers, 256)];
  expect(Buffer.compare(few, many.subarray(0, few.byteLength))).toBe(0);
  expect(new Float32Array(few.buffer).filter(Number.isNaN)).toHaveLength(1);
});
