/** Thread of the router's tokenizer: does whole requests. Started by `openModelTokenizer`. */
import { serveTokenizer } from '@causeway/model-files/internal';
import { doRequest, type RequestJob } from './request-job.ts';

serveTokenizer((tokenizer, input) => {
  const value = doRequest(tokenizer, input as RequestJob);
  const buffers = value.prompts.map(({ ids }) => ids.buffer);
  if (value.response !== undefined) buffers.push(value.response.buffer);
  return { value, transfer: buffers as ArrayBuffer[] };
});
