/**
 * Many clients at once on a whole cluster: every answer arrives and equals the one a lone client gets, and no process holds its
 * event loop for more than 5 ms of CPU time (its own instrumentation: causeway_event_loop_long_sections_total).
 */
import { type Cluster, eventually, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MODEL = 'models/tiny-moe';
const CLIENTS = 16;
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
    env: { router: { CAUSEWAY_PLACEMENT: 'disaggregated' } },
  });
}, 120_000);
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
});

async function ask(question: string): Promise<{ text: string; outcome: string }> {
  const response = await fetch(`http://${cluster.router.http}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny-moe', messages: [{ role: 'user', content: question }], temperature: 0, max_tokens: 64 }),
  });
  const body = (await response.json()) as {
    choices: { message: { content: string } }[];
    usage: { causeway: { outcome: string } };
  };
  expect(response.status, JSON.stringify(body)).toBe(200);
  return { text: body.choices[0]?.message.content ?? '', outcome: body.usage.causeway.outcome };
}

/** Value of a metric without labels, or with exactly these. */
async function metric(observability: string, name: string): Promise<number> {
  const text = await (await fetch(`http://${observability}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length + 1));
}

/** Each process's value of a metric, by its name. */
async function everywhere(name: string): Promise<Record<string, number>> {
  const processes = [
    ...cluster.workers.map((worker) => [worker.id, worker.observability] as const),
    ['router', cluster.router.observability] as const,
  ];
  return Object.fromEntries(await Promise.all(processes.map(async ([id, at]) => [id, await metric(at, name)] as const)));
}

describe('a cluster under load', () => {
  it('answers 16 clients at once as it answers one, and never holds an event loop for more than 5 ms', async () => {
    const alone = new Map<string, string>();
    for (const question of QUESTIONS) alone.set(question, (await ask(question)).text);
    expect(alone.get(QUESTIONS[0] as string)).toBe('The capital of France is Paris.');
    // The first crowd compiles what a lone client never reached.
    await Promise.all(Array.from({ length: CLIENTS }, (_, i) => ask(QUESTIONS[i % QUESTIONS.length] as string)));

    const before = await everywhere('causeway_event_loop_long_sections_total');
    const outcomes: string[] = [];
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_, client) => {
        for (let round = 0; round < ROUNDS; round++) {
          const question = QUESTIONS[(client + round) % QUESTIONS.length] as string;
          const answer = await ask(question);
          expect(answer.text).toBe(alone.get(question));
          outcomes.push(answer.outcome);
        }
      }),
    );
    const after = await everywhere('causeway_event_loop_long_sections_total');
    const longest = await everywhere('causeway_event_loop_longest_section_seconds');
    console.log('longest section since start, seconds:', longest, 'long sections before:', before, 'after:', after);
    expect(outcomes.length).toBe(CLIENTS * ROUNDS);
    expect(new Set(outcomes)).toEqual(new Set(['used']));
    expect(after).toEqual(before);
    await eventually(async () => (await everywhere('causeway_router_queue_depth')).router === 0, { what: 'the queue is empty' });
  }, 180_000);
});
