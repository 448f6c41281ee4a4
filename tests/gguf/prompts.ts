/** Texts that the references are about: what pre-tokenizers split differently, and a prompt long enough for scaled positions to matter. */

export const TEXTS = [
  'Hello world',
  "I'll say it's 3.14159, or 1000000 if you're CAREFUL!",
  '  two spaces,\ttab\n\n\nthree lines  \n and an end ',
  'Grüße aus Köln: naïve café — 25 % von 300 €',
  '東京は日本の首都です。北京是中国的首都。서울',
  'emoji 😀👍🏽 and \u00e9 composed',
  'def f(x):\n    return {"a": [1, 2, 3], \'b\': x**2}  # done\r\n',
] as const;

/** The user's message of the chat prompt. */
export const CONTENT = [
  'The old lighthouse stood at the end of a long stone pier, and every evening at half past 7 its keeper climbed 143 steps to light the lamp.',
  'She had done so for 21 years, in wind and rain, and she knew the name of every ship that passed.',
  'One night in November a small boat came in without a light. Nobody was on board; there was only a box of letters, tied with a blue ribbon.',
  'The letters were written in German, French and 日本語, and all of them began with the same words: "Wenn du das liest, bin ich schon weit weg".',
  'Tell me what the keeper did next, in no more than four sentences, and say what was in the last letter.',
].join('\n');
