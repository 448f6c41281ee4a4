/**
 * A child process with a scripted prefill worker and scripted decode workers. Once every `pace` ms a decode worker gives all its streams a
 * token, one after the other, as a running batch does; the workers' steps are spread over that time. The process tells their addresses,
 * notes when each token left, and tells that when it is asked.
 *   fork(FILE, [REDIS_URL, TOKENS, PACE_MS, DECODE_WORKERS])
 */
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { type FakeScript, Fabric, startFakeWorker } from '../../conformance/fake-worker.ts';
import { clockMs } from './stream-answer.ts';

/** When the tokens of each request left, by position, in ms of the machine's monotonic clock. */
export type SentTimes = Record<string, number[]>;

async function answerOf(tokens: number): Promise<number[]> {
  using checkpoint = await openCheckpoint('models/tiny-moe');
  if (checkpoint.tokenizerSource === undefined) throw new Error('tiny-moe has no tokenizer');
  const words = loadTokenizer(checkpoint.tokenizerSource).encode(' the old house of the old man');
  return Array.from({ length: tokens }, (_, i) => words[1 + (i % (words.length - 1))] as number);
}

/** Gives the promise of the next step. */
function steps(paceMs: number, phaseMs: number): () => Promise<void> {
  let step = Promise.withResolvers<void>();
  const next = (): void => {
    const { resolve } = step;
    step = Promise.withResolvers<void>();
    resolve();
  };
  setTimeout(() => setInterval(next, paceMs), phaseMs);
  return () => step.promise;
}

async function serve(redisUrl: string, tokens: number, paceMs: number, decoders: number): Promise<void> {
  const sent = new Map<string, number[]>();
  const note = (requestId: string, position: number): void => {
    const times = sent.get(requestId) ?? [];
    times[position] = clockMs();
    sent.set(requestId, times);
  };
  const fabric = new Fabric();
  const answer = await answerOf(tokens);
  const start = (id: string, script: Partial<FakeScript>) =>
    startFakeWorker({
      id,
      role: id.startsWith('prefill') ? 'prefill' : 'decode',
      redisUrl,
      fabric,
      script: { answer, ...script },
      maxSequences: 1024,
      contextLength: 4096,
    });
  const prefill = await start('prefill-0', { onPrefill: ({ requestId }) => Promise.resolve(note(requestId, 0)) });
  const decode: string[] = [];
  for (let i = 0; i < decoders; i++) {
    const step = steps(paceMs, (i * paceMs) / decoders);
    const beforeToken: FakeScript['beforeToken'] = async (position, { requestId }) => {
      await step();
      note(requestId, position);
    };
    decode.push((await start(`decode-${i}`, { beforeToken })).address);
  }
  process.on('message', () => {
    process.send?.(Object.fromEntries(sent));
    sent.clear();
    fabric.events.length = 0;
  });
  process.send?.({ prefill: prefill.address, decode });
}

const [redisUrl, tokens, paceMs, decoders] = process.argv.slice(2);
if (process.send !== undefined && redisUrl !== undefined) await serve(redisUrl, Number(tokens), Number(paceMs), Number(decoders));
