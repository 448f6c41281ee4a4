/** For a program's own tokenizer threads: loads no checkpoint reader and no native code. */
export { serveTokenizer } from './tokenizer-serve.ts';
export type { OwnResult } from './tokenizer-serve.ts';
