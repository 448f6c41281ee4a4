/**
 * Many clients at once on a whole cluster, half of them streaming: every answer arrives and equals the one a lone client gets, and
 * no process holds its event loop for long (its own instrumentation: causeway_event_loop_long_sections_total, which sees turns of
 * more than 7 ms of CPU time for certain).
 */
import { type Cluster, eventually, startCluster } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MODEL = 'models/tiny-moe';
const CLIENTS = 16;
/** Questions of each client in a round. */
const QUESTIONS_EACH = 3;
/**
 * The same load is repeated until a round passes without a long turn. A section that is part of the work is long in every round;
 * what a neighbour on the machine, a garbage collection or a compilation makes of a turn is not.
 */
const ROUNDS = 6;
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

/** Value of a metric without labels. A process that doesn't export it fails the test. */
async function metric(observability: string, name: string): Promise<number> {
  const text = await (await fetch(`http://${observability}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  if (line === undefined) throw new Error(`${observability} exports no ${name}`);
  return Number(line.slice(name.length + 1));
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
  it('answers 16 clients at once as it answers one, and no turn of an event loop is long', async () => {
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
    const long: Record<string, number>[] = [];
    for (let count = 0; count < ROUNDS; count++) {
      const before = await everywhere('causeway_event_loop_long_sections_total');
      await round();
      const after = await everywhere('causeway_event_loop_long_sections_total');
      long.push(Object.fromEntries(Object.entries(after).map(([id, value]) => [id, value - (before[id] ?? 0)])));
      if (quiet(long)) break;
    }
    console.log('long turns, round by round:', JSON.stringify(long));
    // Each process by itself: a quiet round of one need not be a quiet round of another.
    expect(quiet(long), JSON.stringify(long)).toBe(true);
    await eventually(async () => (await metric(cluster.router.observability, 'causeway_router_queue_depth')) === 0, {
      what: 'the queue is empty',
    });
  }, 240_000);
});

/** Whether every process had a round without a long turn. */
function quiet(rounds: readonly Record<string, number>[]): boolean {
  return Object.keys(rounds[0] ?? {}).every((id) => rounds.some((round) => round[id] === 0));
}
