/** Calls that must come: what the workers are told to hold the answer to, and how the answer is read. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, create, deltas, startCluster, tools } from './tools-cluster.ts';

const CALL = '{"name": "get_weather", "parameters": {"city": "Paris"}}';

describe.each(['qwen3', 'kimi-k2-thinking', 'llama3'])('tool_choice with a model in the form of %s', (template) => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster(template);
  });
  afterAll(() => cluster?.[Symbol.asyncDispose]());
  const thought = (text: string): string => (template === 'kimi-k2-thinking' ? `<think>Well.</think>${text}` : text);

  it('"required" holds the answer to a call of any tool', async () => {
    cluster.write(thought(CALL));
    const { choices } = await create(cluster, { tool_choice: 'required' });
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        content: null,
        tool_calls: [{ type: 'function', function: { name: 'get_weather', arguments: '{"city": "Paris"}' } }],
      },
    });
    const told = cluster.harness.fabric.of('reserve')[0]?.generation?.constraint;
    expect(JSON.stringify(told)).toContain('get_weather');
    expect(JSON.stringify(told)).toContain('\\"add\\"');
  });

  it('a named function streams as deltas of its call', async () => {
    cluster.write(thought(CALL));
    const { all, finish } = await deltas(cluster, { tool_choice: { type: 'function', function: { name: 'get_weather' } } });
    expect(finish).toBe('tool_calls');
    const calls = all.flatMap(({ tool_calls: list }) => list ?? []);
    expect(calls[0]).toMatchObject({ index: 0, type: 'function', function: { name: 'get_weather' } });
    expect(calls.map((call) => call.function?.arguments ?? '').join('')).toBe('{"city": "Paris"}');
    const told = JSON.stringify(cluster.harness.fabric.of('reserve')[0]?.generation?.constraint);
    expect(told).not.toContain('\\"add\\"');
  });
});

describe('tool_choice', () => {
  it('with parameters that can not be held to is refused, naming it', async () => {
    await using cluster = await startCluster('qwen3');
    const parameters = { type: 'object', properties: { a: { not: { type: 'string' } } } };
    const [weather] = tools;
    const response = await cluster.harness.post('/v1/chat/completions', {
      model: 'tiny-moe',
      messages: [{ role: 'user', content: 'x' }],
      tools: [weather, { type: 'function', function: { name: 'odd', parameters } }],
      tool_choice: 'required',
    });
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { param: string; message: string } };
    expect(error.param).toBe('tool_choice');
    expect(error.message).toContain('not');
  });
});
