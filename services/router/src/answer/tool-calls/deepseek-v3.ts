/** Calls of DeepSeek V3, R1 and V3.1 (their chat templates). */
import { sectioned } from './sectioned.ts';

const MARKS = {
  begins: ['<｜tool▁calls▁begin｜>'],
  ends: ['<｜tool▁calls▁end｜>'],
  callBegin: '<｜tool▁call▁begin｜>',
  callEnd: '<｜tool▁call▁end｜>',
} as const;
const SEPARATOR = '<｜tool▁sep｜>';

/** V3 and R1: `function<｜tool▁sep｜>NAME`, and the arguments in a Markdown block of JSON. */
export const deepseekV3 = sectioned({
  ...MARKS,
  argumentsBegin: '```json',
  others: [SEPARATOR],
  named: (header) => ({ name: header.slice(header.indexOf(SEPARATOR) + SEPARATOR.length).trim() }),
});

/** V3.1: `NAME<｜tool▁sep｜>` and the arguments as they are. */
export const deepseekV31 = sectioned({
  ...MARKS,
  argumentsBegin: SEPARATOR,
  named: (header) => ({ name: header.trim() }),
});
