/** What moves the panels that rest while all is well: failures of every part of a cluster, one after another, under load. */
import { setTimeout as wait } from 'node:timers/promises';
import { connectDeafNatsPeer, connectNatsPeer, eventually, natsPublication, startDamagingLink } from '@causeway/testkit';
import type { Watched } from './watched-cluster.ts';

const LONG_PROMPT = `Read these notes. ${'Mia put the map in the garden. Tom sleeps in room 88. '.repeat(70)}Count from 1 to 60.`;
const AT_ONCE = 12;
/** Scrapes are a second apart. */
const SEEN_MS = 3_000;
/** Memory for KV of a decode worker as `ascend`, tiny-moe: its slots, f32, and 19 pages of 128 tokens, bf16, of which a prompt takes 9. */
const PAGES_FOR_TWO = {
  CAUSEWAY_MAX_CONTEXT: '2048',
  CAUSEWAY_MAX_SEQUENCES: '8',
  CAUSEWAY_KV_BUDGET_BYTES: String(9 * 2048 * 1280 + 19 * 128 * 640),
};
/** Parts of KV that arrive damaged; a transfer is refused at the 33rd. */
const DAMAGED_PARTS = 4;
/** Recording rules are evaluated every 15 s. */
const SETTLED_MS = 60_000;

/**
 * Lets long prompts wait, clients go away, NATS and Redis restart, KV be damaged on its way, a client of NATS read nothing until it is cut
 * off, memory for KV run out, decode workers and a shard stand still, shards die, a decode and prefill workers die in mid work, and no decode
 * worker be there; ends when `done` says so, or after a minute.
 */
export async function failEverything({ cluster, range, follow }: Watched, done: () => Promise<boolean>): Promise<void> {
  const ask = async (maxTokens: number, signal?: AbortSignal): Promise<void> => {
    try {
      const response = await fetch(`http://${cluster.router.http}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model: 'tiny-moe',
          prompt: LONG_PROMPT,
          max_tokens: maxTokens,
          ignore_eos: true,
          stream: true,
          causeway: { placement: 'disaggregated' },
        }),
        ...(signal === undefined ? {} : { signal }),
      });
      await response.text();
    } catch {
      // Its client went away, or the router said why: both are what is to be seen.
    }
  };
  const several = (count: number, maxTokens: number): Promise<unknown> =>
    Promise.all(Array.from({ length: count }, () => ask(maxTokens)));
  const start: typeof cluster.startWorker = async (...worker) => {
    const started = await cluster.startWorker(...worker);
    follow();
    return started;
  };
  const killed = async (id: string): Promise<void> => {
    await cluster.worker(id).process.kill();
  };

  const prefill = { CAUSEWAY_CHIP: 'nvidia' };
  const decode = { CAUSEWAY_CHIP: 'ascend' };
  // The decode worker that is left has pages for two of these prompts, and one more: the younger answer makes room for the older.
  await start('decode', 'decode-2', { ...decode, ...PAGES_FOR_TWO });
  await killed('decode-1');
  await several(4, 60);
  await start('decode', 'decode-1', decode);

  // Prompts wait for the prefill worker; some clients do not.
  const patient = several(AT_ONCE, 8);
  await Promise.all(Array.from({ length: 4 }, (_, i) => ask(400, AbortSignal.timeout(500 + 500 * i))));
  await patient;

  // NATS goes and comes while KV is under way.
  const interrupted = several(AT_ONCE, 8);
  await wait(1_000);
  await cluster.nats.signal('KILL');
  await wait(SEEN_MS);
  await cluster.nats.start();
  await interrupted;

  // Redis goes and comes: routers go on with what they knew.
  await cluster.redis.signal('KILL');
  await several(4, 8);
  await wait(SEEN_MS);
  await cluster.redis.start();

  // KV of one prefill worker is damaged on its way: parts are refused, and sent again.
  {
    await using link = await startDamagingLink({ target: cluster.nats.port, subject: 'causeway.v1.kv.' });
    const throughIt = await start('prefill', 'prefill-2', {
      ...prefill,
      CAUSEWAY_NATS_URL: `nats://127.0.0.1:${link.port}`,
    });
    // Rates are of what rises between two scrapes.
    await wait(SEEN_MS);
    link.damage(DAMAGED_PARTS);
    await several(AT_ONCE, 8);
    if (link.left > 0) throw new Error(`of ${DAMAGED_PARTS} parts to be damaged ${link.left} did not come`);
    await wait(SEEN_MS);
    await throughIt.process.stop();
  }

  // A prefill worker dies at the first part that it sends: its prompt is read again.
  await start('prefill', 'prefill-2', { ...prefill, CAUSEWAY_FAILPOINTS: 'after_frame_k=kill' });
  await several(AT_ONCE, 8);
  if (cluster.worker('prefill-2').process.exit === undefined) throw new Error('prefill-2 sent nothing');

  // A client of NATS reads nothing of what is there for it: the server holds it, and cuts the client off.
  const deaf = await connectDeafNatsPeer(cluster.nats.port, 'bulk');
  const sender = (await connectNatsPeer(cluster.nats.port)).resume();
  try {
    // It sends KV of a transfer that nobody knows, too: that is dropped.
    const incarnation = String(cluster.worker('decode-1').process.logs()[0]?.['incarnation']);
    sender.write(natsPublication(`causeway.v1.kv.decode-1.${incarnation}.${'0'.repeat(32)}`, 100));
    const began = Date.now() / 1000;
    const seen = async (query: string): Promise<boolean> => {
      sender.write(natsPublication('bulk', 262_144));
      return (await range(query)).some(({ values }) => values.some(([at]) => at > began));
    };
    const waits = (): Promise<boolean> => seen('causeway_nats_server_pending_bytes > 0');
    await eventually(waits, { timeoutMs: 30_000, intervalMs: 100, what: 'bytes that wait in the server' });
    const cutOff = (): Promise<boolean> => seen('causeway_nats_server_slow_consumers_total > 0');
    await eventually(cutOff, { timeoutMs: 60_000, intervalMs: 100, what: 'a client that is cut off' });
  } finally {
    deaf.destroy();
    sender.destroy();
  }

  // Decode workers do not take what is sent to them: it piles up, at the server at last.
  const piled = several(2 * AT_ONCE, 8);
  await wait(1_000);
  for (const id of ['decode-1', 'decode-2']) cluster.worker(id).process.signal('STOP');
  await wait(2 * SEEN_MS);
  for (const id of ['decode-1', 'decode-2']) cluster.worker(id).process.signal('CONT');
  await piled;

  // A shard stands still, again and again; then only one is left.
  for (let pause = 0; pause < 8; pause++) {
    const answers = several(2, 40);
    cluster.worker('expert-2').process.signal('STOP');
    await wait(400);
    cluster.worker('expert-2').process.signal('CONT');
    await answers;
  }
  await killed('expert-3');
  await killed('expert-2');
  await wait(SEEN_MS);
  await start('expert', 'expert-2');

  // In mid answer a decode worker dies, then the last prefill worker in the middle of prompts.
  const moved = several(4, 200);
  await wait(2_000);
  await killed('decode-1');
  await moved;
  const recomputed = several(4, 8);
  await wait(500);
  await killed('prefill-1');
  await recomputed;

  // Nobody decodes; then workers are back.
  await killed('decode-2');
  await several(4, 8);
  await Promise.all([start('prefill', 'prefill-1'), start('decode', 'decode-1', decode), start('decode', 'decode-2', decode)]);

  await eventually(done, { timeoutMs: SETTLED_MS, intervalMs: 2_000, what: 'every panel to move' }).catch(() => undefined);
}
