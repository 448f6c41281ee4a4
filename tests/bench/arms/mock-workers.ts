/**
 * A child process with a scripted prefill and a scripted decode worker. Once every `pace` ms all running streams are given a token, one
 * after the other, as a running batch does. It tells its addresses, notes when each token left, and tells that when it is asked.
 *   fork(FILE, [REDIS_URL, TOKENS, PACE_MS])
 */
import { loadTokenizer, openCheckpoint } from '@causeway/model-files';
import { type FakeScript, Fabric, startFakeWorker } from '../../conformance/fake-worker.ts';

/** When the tokens of each request left, by position, in ms of the machine's monotonic clock. */
export type SentTimes = Record<string, number[]>;

/** Milliseconds of the clock that all processes of the machine share. */
export const clockMs = (): number => Number(process.hrtime.bigint()) / 1e6;

async function answerOf(tokens: number): Promise<number[]> {
  using checkpoint = await openCheckpoint('models/tiny-moe');
  if (checkpoint.tokenizerSource === undefined) throw new Error('tiny-moe has no tokenizer');
  const words = loadTokenizer(checkpoint.tokenizerSource).encode(' the old house of the old man');
  return Array.from({ length: tokens }, (_, i) => words[1 + (i % (words.length - 1))] as number);
}

async function serve(redisUrl: string, tokens: number, paceMs: number): Promise<void> {
  const sent = new Map<string, number[]>();
  let step = Promise.withResolvers<void>();
  setInterval(() => {
    const { resolve } = step;
    step = Promise.withResolvers<void>();
    resolve();
  }, paceMs);
  const note = (requestId: string, position: number): void => {
    const times = sent.get(requestId) ?? [];
    times[position] = clockMs();
    sent.set(requestId, times);
  };
  const fabric = new Fabric();
  const script: FakeScript = {
    answer: await answerOf(tokens),
    onPrefill: ({ requestId }) => Promise.resolve(note(requestId, 0)),
    beforeToken: async (position, { requestId }) => {
      await step.promise;
      note(requestId, position);
    },
  };
  const [prefill, decode] = await Promise.all(
    (['prefill', 'decode'] as const).map((role) =>
      startFakeWorker({ id: `${role}-0`, role, redisUrl, fabric, script, maxSequences: 1024, contextLength: 4096 }),
    ),
  );
  process.on('message', () => {
    process.send?.(Object.fromEntries(sent));
    sent.clear();
    fabric.events.length = 0;
  });
  process.send?.({ prefill: prefill?.address, decode: decode?.address });
}

const [redisUrl, tokens, paceMs] = process.argv.slice(2);
if (process.send !== undefined && redisUrl !== undefined) await serve(redisUrl, Number(tokens), Number(paceMs));
