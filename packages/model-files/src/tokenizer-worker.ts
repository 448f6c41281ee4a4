/** Thread that tokenizes; started by TokenizerPool with a TokenizerSource. */
import { serveTokenizer } from './tokenizer-serve.ts';

serveTokenizer();
