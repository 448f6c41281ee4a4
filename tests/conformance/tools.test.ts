/** Tools, calls and reasoning through the router's APIs, with scripted workers that write what models write. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startHarness } from './harness.ts';
import { markedModel } from './marked-model.ts';
import { ARGUMENTS, type Cluster, create, deltas, messages, prompt, startCluster, tools } from './tools-cluster.ts';

describe.each([
  [
    'qwen3',
    `<tool_call>\n{"name": "get_weather", "arguments": ${ARGUMENTS}}\n</tool_call>`,
    '\n<tool_call>{"name": "add"}</tool_call>',
  ],
  [
    'qwen3-coder',
    '<tool_call>\n<function=get_weather>\n<parameter=city>\nZürich 😀\n</parameter>\n<parameter=days>\n[1, 2]\n</parameter>\n</function>',
    '\n</tool_call>\n<tool_call>\n<function=add>\n</function>\n</tool_call>',
  ],
  ['llama3', `{"name": "get_weather", "parameters": ${ARGUMENTS}}`, '; {"name": "add", "parameters": {}}'],
  [
    'deepseek-v31',
    `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>${ARGUMENTS}<｜tool▁call▁end｜>`,
    '<｜tool▁call▁begin｜>add<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  [
    'kimi-k2-thinking',
    `<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>${ARGUMENTS}<|tool_call_end|>`,
    '<|tool_call_begin|>functions.add:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>',
  ],
])('a model in the form of %s', (template, first, second) => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster(template);
  });
  afterEach(() => cluster.harness.quiet());
  afterAll(() => cluster?.[Symbol.asyncDispose]());

  it('is told of the tools, and its calls come whole', async () => {
    cluster.write(first + second);
    const { choices } = await create(cluster);
    expect(prompt(cluster)).toContain('get_weather');
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        role: 'assistant',
        content: null,
        tool_calls: [
          { type: 'function', function: { name: 'get_weather', arguments: ARGUMENTS } },
          { type: 'function', function: { name: 'add', arguments: '{}' } },
        ],
      },
    });
    const ids = choices[0]?.message.tool_calls?.map(({ id }) => id) ?? [];
    expect(new Set(ids).size).toBe(2);
    if (template === 'kimi-k2-thinking') expect(ids).toEqual(['functions.get_weather:0', 'functions.add:1']);
  });

  it('streams them: once index, id, type and name, then arguments in pieces', async () => {
    cluster.write(first);
    const { all, finish } = await deltas(cluster);
    const calls = all.flatMap(({ tool_calls: list }) => list ?? []);
    expect(calls[0]).toEqual({
      index: 0,
      id: expect.any(String) as string,
      type: 'function',
      function: { name: 'get_weather', arguments: '' },
    });
    const rest = calls.slice(1);
    expect(rest.length).toBeGreaterThan(5);
    for (const call of rest) expect(Object.keys(call).sort()).toEqual(['function', 'index']);
    expect(rest.map((call) => call.function?.arguments).join('')).toBe(ARGUMENTS);
    expect(all.map(({ content }) => content ?? '').join('')).toBe('');
    expect(finish).toBe('tool_calls');
  });

  it("is understood by the client's own helper, and takes the conversation on", async () => {
    cluster.write(first + second);
    const final = await cluster.harness.openai.chat.completions
      .stream({ model: 'tiny-moe', messages, tools })
      .finalChatCompletion();
    const message = final.choices[0]?.message;
    expect(message?.tool_calls).toMatchObject([
      { function: { name: 'get_weather', arguments: ARGUMENTS } },
      { function: { name: 'add', arguments: '{}' } },
    ]);
    cluster.write('It is warm.');
    const calls = template === 'llama3' ? message?.tool_calls?.slice(0, 1) : message?.tool_calls;
    const turns = [
      ...messages,
      { role: 'assistant', content: null, tool_calls: calls },
      ...(calls ?? []).map(({ id }) => ({ role: 'tool', tool_call_id: id, content: `result of ${id}` })),
    ];
    const answer = await create(cluster, { messages: turns });
    expect(answer.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: 'It is warm.' } });
    expect(answer.choices[0]?.message).not.toHaveProperty('tool_calls');
    for (const part of ['Zürich 😀', ...(calls ?? []).map(({ id }) => `result of ${id}`)])
      expect(prompt(cluster)).toContain(part);
  });

  it('writes a tool that nobody gave, and broken JSON, as content', async () => {
    const unknown = first.replace('get_weather', 'launch');
    cluster.write(unknown);
    const whole = await create(cluster);
    expect(whole.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: unknown } });
    expect((await deltas(cluster)).all.map(({ content }) => content ?? '').join('')).toBe(unknown);
    const broken = first.replace('[1, 2]', '[1, 2');
    cluster.write(broken);
    const { choices } = await create(cluster);
    expect(choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: broken } });
  });

  it('calls one tool where more are not wanted, and stops there', async () => {
    const answer = cluster.write(first + second);
    const { choices, usage } = await create(cluster, { parallel_tool_calls: false });
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { tool_calls: [{ function: { name: 'get_weather' } }] },
    });
    expect(choices[0]?.message.tool_calls).toHaveLength(1);
    expect(usage?.completion_tokens).toBeLessThan(answer.length);
  });

  it('is not told of tools that must not be called, and its text is text', async () => {
    cluster.write(first);
    const { choices } = await create(cluster, { tool_choice: 'none' });
    expect(prompt(cluster)).not.toContain('Tells the weather');
    expect(choices[0]?.finish_reason).toBe('stop');
    expect(choices[0]?.message).not.toHaveProperty('tool_calls');
    expect(choices[0]?.message.content).toContain('Zürich 😀');
  });
});

describe('calls', () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await startCluster('qwen3', {}, ['prefill-0', 'decode-0', 'decode-1']);
  });
  afterEach(() => cluster.harness.quiet());
  afterAll(() => cluster?.[Symbol.asyncDispose]());
  const CALL = `<tool_call>{"name": "get_weather", "arguments": ${ARGUMENTS}}</tool_call>`;

  it('go on where they stopped when a decode worker dies in the middle of one: no piece lost, none doubled', async () => {
    let killed = '';
    const answer = cluster.write(`I look.\n${CALL}\n${CALL}`, {
      beforeToken: async (position, { worker }) => {
        if (position !== 25 || killed !== '') return;
        killed = worker;
        await cluster.harness.worker(worker).kill();
      },
    });
    expect(answer.length).toBeGreaterThan(40);
    const { all, finish } = await deltas(cluster);
    expect(killed).toMatch(/^decode-/);
    const calls = all.flatMap(({ tool_calls: list }) => list ?? []);
    const text = (index: number) =>
      calls
        .filter((call) => call.index === index)
        .map((call) => call.function?.arguments ?? '')
        .join('');
    expect([text(0), text(1), finish]).toEqual([ARGUMENTS, ARGUMENTS, 'tool_calls']);
    expect(calls.filter(({ id }) => id !== undefined)).toHaveLength(2);
    expect(all.map(({ content }) => content ?? '').join('')).toBe('I look.\n');
    expect(cluster.harness.fabric.of('reserve')).toHaveLength(2);
  });

  it('are cut by max_tokens and by stop strings: what there is of them comes', async () => {
    cluster.write(CALL);
    const cut = await deltas(cluster, { max_tokens: 30 });
    expect(cut.finish).toBe('length');
    const args = cut.all
      .flatMap(({ tool_calls: list }) => list ?? [])
      .map((call) => call.function?.arguments ?? '')
      .join('');
    expect(args.length).toBeGreaterThan(0);
    expect(ARGUMENTS.startsWith(args)).toBe(true);
    const stopped = await deltas(cluster, { stop: ['days'] });
    expect(stopped.finish).toBe('stop');
    expect(
      stopped.all
        .flatMap(({ tool_calls: list }) => list ?? [])
        .map((call) => call.function?.arguments ?? '')
        .join(''),
    ).toBe('{"city": "Zürich 😀", "');
  });

  it('come with the log-probabilities of every token', async () => {
    const answer = cluster.write(`Hm. ${CALL}`);
    const { choices } = await create(cluster, { logprobs: true });
    expect(choices[0]?.logprobs?.content).toHaveLength(answer.length);
    const stream = await cluster.harness.openai.chat.completions.create({
      model: 'tiny-moe',
      messages,
      tools,
      logprobs: true,
      stream: true,
    });
    let count = 0;
    for await (const chunk of stream) count += chunk.choices[0]?.logprobs?.content?.length ?? 0;
    expect(count).toBe(answer.length);
  });

  it('of a great length come in pieces, none held back', async () => {
    const long = JSON.stringify({ city: 'lorem ipsum '.repeat(200) });
    cluster.write(`<tool_call>{"name": "get_weather", "arguments": ${long}}</tool_call>`);
    const { all } = await deltas(cluster);
    const calls = all.flatMap(({ tool_calls: list }) => list ?? []);
    expect(calls.length).toBeGreaterThan(300);
    expect(calls.map((call) => call.function?.arguments).join('')).toBe(long);
  });

  it('content before them is not held back', async () => {
    cluster.write(`Let me < look ${CALL}`);
    const { all } = await deltas(cluster);
    const texts = all.flatMap(({ content }) => (content === undefined || content === null || content === '' ? [] : [content]));
    expect(texts.join('')).toBe('Let me < look ');
    expect(texts.length).toBeGreaterThan(2);
  });

  it.each([
    [{ tool_choice: 'required', response_format: { type: 'json_object' } }, 'bad_request', 'tool_choice'],
    [{ tool_choice: { type: 'function', function: { name: 'sub' } } }, 'bad_request', 'tool_choice.function.name'],
    [{ tools: [{ type: 'function', function: { name: 'a b' } }] }, 'bad_request', 'tools[0].function.name'],
    [{ messages: [{ role: 'tool', content: 'x' }] }, 'bad_request', 'messages[0].tool_call_id'],
    [{ chat_template_kwargs: { tools: [] } }, 'bad_request', 'chat_template_kwargs'],
  ])('refuses %j', async (more, reason, param) => {
    const response = await cluster.harness.post('/v1/chat/completions', { model: 'tiny-moe', messages, tools, ...more });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { reason, param, type: 'invalid_request_error' } });
  });

  it('are part of what /tokenize counts', async () => {
    const tokenize = async (more: object) => {
      const response = await cluster.harness.post('/tokenize', { messages, ...more });
      return ((await response.json()) as { tokens: number[] }).tokens;
    };
    expect(cluster.model.tokenizer.decodeAll(await tokenize({ tools }))).toContain('Tells the weather');
    const off = { chat_template_kwargs: { enable_thinking: false } };
    expect(cluster.model.tokenizer.decodeAll(await tokenize(off))).toContain('</think>');
  });
});

describe('reasoning', () => {
  const REASONING = 'The user asks.\n\nI know it.';
  const answers = [
    ['kimi-k2-thinking', `<think>${REASONING}</think>It is warm.`],
    ['deepseek-r1', `${REASONING}\n</think>\n\nIt is warm.`],
    ['qwen3', `<think>\n${REASONING}\n</think>\n\nIt is warm.`],
  ] as const;

  it.each(answers)('of %s comes by itself, whole and streamed, and is counted', async (template, text) => {
    await using cluster = await startCluster(template);
    cluster.write(text);
    const { choices, usage } = await create(cluster, { tools: undefined });
    expect(choices[0]?.message).toMatchObject({ content: 'It is warm.', reasoning_content: REASONING });
    const { length } = cluster.model.tokenizer.encodeRendered(REASONING);
    expect(usage?.completion_tokens_details?.reasoning_tokens).toBeGreaterThanOrEqual(length - 1);
    expect(usage?.completion_tokens_details?.reasoning_tokens).toBeLessThanOrEqual(length + 3);
    const { all } = await deltas(cluster, { tools: undefined });
    const pieces = all.flatMap(({ reasoning_content: piece }) => piece ?? []);
    expect(pieces.length).toBeGreaterThan(3);
    expect(pieces.join('')).toBe(REASONING);
    expect(all.map(({ content }) => content ?? '').join('')).toBe('It is warm.');
    // What the client got it can send back.
    const message = { ...choices[0]?.message, reasoning: null };
    cluster.write(template === 'deepseek-r1' ? 'So.</think>Yes.' : 'Yes.');
    const next = await create(cluster, {
      tools: undefined,
      messages: [...messages, message, { role: 'user', content: 'Sure?' }],
    });
    expect(next.choices[0]?.message.content).toBe('Yes.');
  });

  it('is switched by the request, left out where it is not wanted, and never closed is all there is', async () => {
    await using cluster = await startCluster('qwen3');
    cluster.write('It is warm.');
    const off = await create(cluster, { chat_template_kwargs: { enable_thinking: false } });
    expect(prompt(cluster).endsWith('<think>\n\n</think>\n\n')).toBe(true);
    expect(off.choices[0]?.message.content).toBe('It is warm.');
    expect(off.choices[0]?.message).not.toHaveProperty('reasoning_content');
    cluster.write(`<think>${REASONING}</think>It is warm.`);
    const without = await create(cluster, { include_reasoning: false });
    expect(without.choices[0]?.message).toEqual({ role: 'assistant', content: 'It is warm.', refusal: null });
    cluster.write(`<think>${REASONING}`);
    const open = await create(cluster);
    expect(open.choices[0]?.message).toMatchObject({ content: null, reasoning_content: REASONING });
    // Completions are text.
    const text = await cluster.harness.openai.completions.create({ model: 'tiny-moe', prompt: 'x' });
    expect(text.choices[0]?.text).toBe(`<think>${REASONING}`);
  });

  it('comes before calls', async () => {
    await using cluster = await startCluster('kimi-k2-thinking');
    const section =
      '<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{}<|tool_call_end|>';
    cluster.write(`<think>${REASONING}</think>${section}<|tool_calls_section_end|>`);
    const { choices } = await create(cluster);
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { content: null, reasoning_content: REASONING, tool_calls: [{ id: 'functions.add:0' }] },
    });
  });
});

describe('models that know no tools', () => {
  it('refuse them, saying what helps; a template or a setting of the router is such a help', async () => {
    await using plain = await startHarness();
    const body = { model: 'tiny-moe', messages, tools };
    const refused = await plain.post('/v1/chat/completions', body);
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({
      error: {
        reason: 'unsupported_parameter',
        param: 'tools',
        message: expect.stringContaining('CAUSEWAY_CHAT_TEMPLATE') as string,
      },
    });
    expect((await plain.post('/v1/chat/completions', { ...body, tool_choice: 'none' })).status).toBe(200);
    using model = await markedModel('qwen3');
    await using helped = await startHarness({ env: { CAUSEWAY_CHAT_TEMPLATE: `${model.path}/chat_template.jinja` } });
    expect((await helped.post('/v1/chat/completions', body)).status).toBe(200);
    await using unknown = await startHarness({
      env: { CAUSEWAY_CHAT_TEMPLATE: `${model.path}/chat_template.jinja`, CAUSEWAY_TOOL_PARSER: 'none' },
    });
    const untold = await unknown.post('/v1/chat/completions', body);
    expect(await untold.json()).toMatchObject({
      error: {
        reason: 'unsupported_parameter',
        param: 'tools',
        message: expect.stringContaining('CAUSEWAY_TOOL_PARSER') as string,
      },
    });
  });
});
