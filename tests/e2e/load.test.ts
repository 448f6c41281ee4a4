/**
 * Many clients at once on a whole cluster, half of them streaming: every answer arrives and equals the one a lone client gets, and
 * no callback holds an event loop for 5 ms (every process measures each of them: causeway_event_loop_long_sections_total).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cluster, eventually, scrape, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MODEL = 'models/tiny-moe';
const CLIENTS = 16;
/** Questions of each client in a round. */
const QUESTIONS_EACH = 3;
/** What is part of the work is long in every round; a compilation or a marking step of V8's own is in one. */
const ROUNDS = 4;
const QUESTIONS = [
  'What is the capital of France?',
  'Who are you?',
  'Count from 3 to 12.',
  'Tell me a story about a fox.',
  'Which month comes after May?',
  'Sort these words: rope, bell, map.',
  `Read these notes. ${'Mia put the map in the garden. Tom sleeps in room 88. '.repeat(20)}The code of the red box is 731. What is the code of the red box?`,
];

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster({
    model: MODEL,
    router: true,
    workerEnv: { CAUSEWAY_MAX_CONTEXT: '2048', CAUSEWAY_MAX_SEQUENCES: '8' },
    env: {
      router: { CAUSEWAY_PLACEMENT: 'disaggregated', CAUSEWAY_WATCH_SECTIONS: 'on' },
      'prefill-1': { CAUSEWAY_WATCH_SECTIONS: 'on' },
      'decode-1': { CAUSEWAY_WATCH_SECTIONS: 'on' },
    },
  });
}, 120_000);
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

interface Told {
  text: string;
  outcome: string;
}

async function askStreamed(question: string): Promise<Told> {
  const response = await post(question, true);
  const body = await response.text();
  expect(response.status, body).toBe(200);
  expect(body.endsWith('data: [DONE]\n\n')).toBe(true);
  const told: Told = { text: '', outcome: '' };
  for (const line of body.split('\n')) {
    if (!line.startsWith('data: {')) continue;
    const chunk = JSON.parse(line.slice(6)) as {
      choices: { delta: { content?: string } }[];
      usage?: { causeway?: { outcome: string } } | null;
    };
    told.text += chunk.choices[0]?.delta.content ?? '';
    told.outcome = chunk.usage?.causeway?.outcome ?? told.outcome;
  }
  return told;
}

async function ask(question: string): Promise<Told> {
  const response = await post(question, false);
  const body = (await response.json()) as {
    choices: { message: { content: string } }[];
    usage: { causeway: { outcome: string } };
  };
  expect(response.status, JSON.stringify(body)).toBe(200);
  return { text: body.choices[0]?.message.content ?? '', outcome: body.usage.causeway.outcome };
}

function post(question: string, stream: boolean): Promise<Response> {
  return fetch(`http://${cluster.router.http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'tiny-moe',
      messages: [{ role: 'user', content: question }],
      temperature: 0,
      max_tokens: 64,
      stream,
    }),
  });
}

/** Each process's value of a metric, by its name. */
async function everywhere(name: string): Promise<Record<string, number>> {
  const processes = [...cluster.workers.map((worker) => [worker.id, worker] as const), ['router', cluster.router] as const];
  return Object.fromEntries(
    await Promise.all(processes.map(async ([id, process]) => [id, (await scrape(process))(name)] as const)),
  );
}

/** What the processes wrote of the long sections they saw. */
function longSections(): string[] {
  const processes = [...cluster.workers, cluster.router].map(({ process }) => process);
  return processes.flatMap(({ lines }) => lines.filter((line) => line.includes('"what":"section"')));
}

describe('a cluster under load', () => {
  it('answers 16 clients at once as it answers one, and no callback holds an event loop for 5 ms', async () => {
    const alone = new Map<string, string>();
    for (const question of QUESTIONS) alone.set(question, (await ask(question)).text);
    expect(alone.get(QUESTIONS[0] as string)).toBe('The capital of France is Paris.');

    const round = async (): Promise<void> => {
      await Promise.all(
        Array.from({ length: CLIENTS }, async (_, client) => {
          for (let turn = 0; turn < QUESTIONS_EACH; turn++) {
            const question = QUESTIONS[(client + turn) % QUESTIONS.length] as string;
            const told = await (client % 2 === 0 ? ask : askStreamed)(question);
            expect(told).toEqual({ text: alone.get(question), outcome: 'used' });
          }
        }),
      );
    };
    // The first crowd compiles what a lone client never reached.
    await round();
    const rounds: Record<string, number>[] = [];
    for (let count = 0; count < ROUNDS; count++) {
      const before = await everywhere('causeway_event_loop_long_sections_total');
      await round();
      // A section is counted a little later: the news of garbage collections are waited for.
      await sleep(300);
      const after = await everywhere('causeway_event_loop_long_sections_total');
      rounds.push(Object.fromEntries(Object.entries(after).map(([id, value]) => [id, value - (before[id] ?? 0)])));
    }
    for (const id of Object.keys(rounds[0] ?? {})) {
      const long = rounds.filter((counts) => counts[id] !== 0);
      expect(long.length, `${id}: ${JSON.stringify(rounds)}\n${longSections().join('\n')}`).toBeLessThan(2);
    }
    console.log('sections of more than 5 ms:', JSON.stringify(rounds));
    console.log('turns of more than 7 ms:', JSON.stringify(await everywhere('causeway_event_loop_long_turns_total')));
    await eventually(async () => (await scrape(cluster.router))('causeway_router_queue_depth') === 0, {
      what: 'the queue is empty',
    });
  }, 240_000);
});
