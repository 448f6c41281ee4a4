import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type ChatMessage, type ChatTemplate, compileChatTemplate } from './chat-template.ts';
import { refusal } from './testing/scratch.ts';

const SPECIALS = { bos_token: '<s>' };

function template(text: string, tools?: string): ChatTemplate {
  return compileChatTemplate({ main: text, tools }, SPECIALS);
}

/** A template in the form of a family. */
function family(name: string): ChatTemplate {
  return template(readFileSync(new URL(`../../../tests/chat-templates/${name}.jinja`, import.meta.url), 'utf8'));
}

const PLAIN = '{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}';
const user: ChatMessage = { role: 'user', content: 'Weather in Paris?' };
const tools = [
  {
    type: 'function',
    function: { name: 'get_weather', description: 'Tells the weather', parameters: { type: 'object', properties: {} } },
  },
];
const call = (text: string) => ({
  id: 'functions.get_weather:0',
  type: 'function' as const,
  function: { name: 'get_weather', arguments: text },
});
const turns: readonly ChatMessage[] = [
  user,
  { role: 'assistant', content: '', tool_calls: [call('{"city":"Paris"}')] },
  { role: 'tool', content: '21 degrees', tool_call_id: 'functions.get_weather:0', name: 'get_weather' },
];

describe('a chat template', () => {
  it.each([
    ['qwen3', true, { content: '', arguments: 'object' }],
    ['qwen3-coder', true, { content: '', arguments: 'object' }],
    ['llama3', true, { content: '', arguments: 'object' }],
    ['deepseek-r1', false, { content: null, arguments: 'text' }],
    ['deepseek-v31', false, { content: '', arguments: 'text' }],
    ['deepseek-v32', true, { content: '', arguments: 'object' }],
    ['kimi-k2-thinking', true, { content: '', arguments: 'object' }],
  ])('of the form of %s shows what it does with tools and calls', (name, rendersTools, calls) => {
    expect(family(name).facts()).toMatchObject({ rendersTools, calls });
  });

  it('that knows neither shows that too', () => {
    expect(template(PLAIN).facts()).toMatchObject({ rendersTools: false, calls: undefined });
    expect(template("{{ raise_exception('never') }}").facts()).toMatchObject({ rendersTools: false, calls: undefined });
  });

  it.each([
    ['qwen3', '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'],
    ['qwen3-coder', '<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>'],
    ['llama3', '{"name": "get_weather", "parameters": {"city": "Paris"}}'],
    ['deepseek-r1', 'function<｜tool▁sep｜>get_weather\n```json\n{"city":"Paris"}\n```<｜tool▁call▁end｜>'],
    ['deepseek-v31', '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city":"Paris"}<｜tool▁call▁end｜>'],
    [
      'deepseek-v32',
      '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>',
    ],
    [
      'kimi-k2-thinking',
      '<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|>',
    ],
  ])('of the form of %s gets tools, calls and what tools answered', (name, written) => {
    const text = family(name).render(turns, { tools });
    expect(text).toContain('Tells the weather');
    expect(text).toContain(written);
    expect(text).toContain('21 degrees');
    expect(text).not.toContain('\\"city');
  });

  it('of DeepSeek that says nothing about tools has them in the system message, which keeps its own', () => {
    const text = family('deepseek-v31').render([{ role: 'system', content: 'Be brief.' }, user], { tools });
    expect(text.startsWith('<s>Be brief.\n\n## Tools\n')).toBe(true);
    expect(text).toContain('### get_weather\nDescription: Tells the weather\n\nParameters: {"type":"object","properties":{}}');
    expect(text).toContain('<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>');
    expect(text.endsWith('<｜User｜>Weather in Paris?<｜Assistant｜></think>')).toBe(true);
    expect(family('deepseek-r1').render([user], { tools })).toContain('<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```');
  });

  it('for requests with tools alone is used for these alone', () => {
    const both = template(PLAIN, '{% for t in tools %}{{ t.function.name }} {% endfor %}');
    expect(both.render([user])).toBe('user:Weather in Paris?;');
    expect(both.render([user], { tools })).toBe('get_weather ');
    expect(both.facts()?.rendersTools).toBe(true);
  });

  it('that needs descriptions gets empty ones where the request has none', async () => {
    const strict = template(
      '{% for t in tools %}{{ t.function.name }}: {{ t.function.description | trim }}' +
        '{% for name, p in t.function.parameters.properties | items %}, {{ name }}: {{ p.description | trim }}{% endfor %};{% endfor %}',
    );
    const bare = { type: 'function', function: { name: 'f', parameters: { properties: { a: { type: 'string' } } } } };
    expect(strict.render([user], { tools: [...tools, bare, { type: 'function', function: { name: 'g' } }] })).toBe(
      'get_weather: Tells the weather;f: , a: ;g: ;',
    );
    const refusing = template("{% if tools %}{{ tools[0].function.name }}{{ raise_exception('never') }}{% endif %}");
    expect((await refusal(() => refusing.render([user], { tools }))).field).toBe('tools');
  });

  it('gets what is no JSON as it is', () => {
    const broken = [user, { role: 'assistant', content: '', tool_calls: [call('{"city": ')] }];
    expect(family('qwen3').render(broken)).toContain('"arguments": {"city": }');
    expect(family('kimi-k2-thinking').render(broken)).toContain('<|tool_call_argument_begin|>{"city": <|tool_call_end|>');
  });

  it('that would leave tools or calls out refuses them', async () => {
    const about = async (work: () => unknown) => {
      const { code, reason, field } = await refusal(work);
      return [code, reason, field];
    };
    const unsupported = ['invalid_argument', 'unsupported_parameter'];
    expect(await about(() => template(PLAIN).render([user], { tools }))).toEqual([...unsupported, 'tools']);
    expect(await about(() => template(PLAIN).render(turns))).toEqual([...unsupported, 'messages[1].tool_calls']);
    expect(template(PLAIN).render([user], { tools: [] })).toBe('user:Weather in Paris?;');
  });

  it("says what the template's own limits are", async () => {
    const two = [user, { role: 'assistant', content: '', tool_calls: [call('{}'), call('{}')] }];
    const error = await refusal(() => family('llama3').render(two));
    expect(error).toMatchObject({ reason: 'bad_request', field: 'messages' });
    expect(error.message).toContain('one call in an answer at most');
  });

  it.each([
    [true, '<|im_start|>assistant\n'],
    [false, '<|im_start|>assistant\n<think>\n\n</think>\n\n'],
  ])('reads variables: enable_thinking %s', (enabled, end) => {
    expect(
      family('qwen3')
        .render([user], { variables: { enable_thinking: enabled } })
        .endsWith(`<|im_end|>\n${end}`),
    ).toBe(true);
  });

  it('cannot be given other messages, tools or special tokens by variables', () => {
    const variables = { messages: [], bos_token: 'x', add_generation_prompt: false };
    expect(family('llama3').render([user], { variables })).toBe(family('llama3').render([user]));
  });

  it('is stopped when it takes too long', async () => {
    const loop = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}';
    const start = performance.now();
    const error = await refusal(() => template(`${PLAIN}${loop}`).render([user]));
    expect(error).toMatchObject({ code: 'invalid_argument', reason: 'bad_request', field: 'messages' });
    expect(error.message).toContain('took more than 5 s');
    expect(performance.now() - start).toBeLessThan(20_000);
    expect(template(PLAIN).render([user])).toBe('user:Weather in Paris?;');
  });

  it('survives values that are nested too deeply for it', async () => {
    let deep: object = {};
    for (let depth = 0; depth < 20_000; depth++) deep = { a: deep };
    const error = await refusal(() =>
      template('{{ messages | tojson }}{{ x | tojson }}').render([user], { variables: { x: deep } }),
    );
    expect(error.reason).toBe('bad_request');
  });

  it('gives whole characters even where its variables have halves of them', () => {
    expect(template('{{ x }}').render([user], { variables: { x: 'a\ud83d' } })).toBe('a\ufffd');
  });
});
