/** Thread of the router's tokenizer: does whole requests. Started by `openModelTokenizer`. */
import { serveTokenizer } from '@causeway/model-files/internal';
import { doRequest, type RequestJob } from './request-job.ts';

serveTokenizer((tokenizer, input) => {
  const value = doRequest(tokenizer, input as RequestJob);
  const buffers = value.response === undefined ? [value.ids.buffer] : [value.ids.buffer, value.response.buffer];
  return { value, transfer: buffers as ArrayBuffer[] };
});
