/** What is asked, and when: a sequence that its seed decides. */

export interface LoadRequest {
  /** Milliseconds after the one before. */
  afterMs: number;
  content: string;
  maxTokens: number;
}

const QUESTIONS = ['What is the capital of France?', 'What color is snow?', 'Which month comes after May?', 'Who are you?'];
const WORDS =
  'the of and a to in is you that it he was for on are as with his they at be this have from or one had by word'.split(' ');
/** Words before the question: most prompts are short, a few long. */
const PADDING = [0, 0, 8, 40, 120];
const ANSWERS = [8, 16, 32];

/** Endless requests with exponentially distributed gaps: arrivals of users who don't know of each other. */
export function* requests(options: { seed: number; rate: number }): Generator<LoadRequest, never> {
  const random = generator(options.seed);
  const pick = <T>(list: readonly [T, ...T[]] | readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  for (;;) {
    const words = Array.from({ length: pick(PADDING) }, () => pick(WORDS));
    yield {
      afterMs: (-Math.log(1 - random()) * 1000) / options.rate,
      content: [...words, pick(QUESTIONS)].join(' '),
      maxTokens: pick(ANSWERS),
    };
  }
}

/** Marsaglia's xorshift32: numbers in [0, 1). */
function generator(seed: number): () => number {
  let state = (seed | 0) === 0 ? 1 : seed | 0;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
