import { type AnswerPart, AnswerMessage } from '@causeway/openai';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OutputParser } from '../output-parser.ts';
import type { CallFormat } from './call-sink.ts';
import { deepseekV3, deepseekV31 } from './deepseek-v3.ts';
import { deepseekV32 } from './deepseek-v32.ts';
import { hermes } from './hermes.ts';
import { kimiK2 } from './kimi-k2.ts';
import { llama3 } from './llama3.ts';
import { pythonic } from './pythonic.ts';
import { qwen3Coder } from './qwen3-coder.ts';

const TOOLS = ['get_weather', 'add', 'functions.odd'];

/** All parts of a text that comes in pieces, neighbours of one kind joined. */
function parts(format: CallFormat, pieces: readonly string[], more: { parallel?: boolean } = {}): AnswerPart[] {
  let ids = 0;
  const tools = TOOLS.map((name) => ({ name, jsonParameters: ['n', 'list', 'flag'] }));
  const calls = { format, tools, parallel: more.parallel ?? true, newId: () => `id-${ids++}` };
  const parser = new OutputParser({ reasoning: undefined, calls });
  const all = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.end()];
  return all.reduce<AnswerPart[]>((joined, part) => {
    const last = joined.at(-1);
    if (last !== undefined && 'text' in last && 'text' in part && last.kind === part.kind) {
      joined[joined.length - 1] = { ...last, text: last.text + part.text };
    } else joined.push(part);
    return joined;
  }, []);
}

interface Summary {
  content: string;
  calls: [name: string, args: string, valid: boolean | undefined][];
}

function summary(all: readonly AnswerPart[]): Summary {
  const result: Summary = { content: '', calls: [] };
  for (const part of all) {
    if (part.kind === 'content') result.content += part.text;
    if (part.kind === 'call') result.calls.push([part.name, '', undefined]);
    const call = 'index' in part ? result.calls[part.index] : undefined;
    if (part.kind === 'arguments' && call !== undefined) call[1] += part.text;
    if (part.kind === 'call_end' && call !== undefined) call[2] = part.valid;
  }
  return result;
}

const read = (format: CallFormat, text: string): Summary => summary(parts(format, [text]));

const V3 = (name: string, args: string): string =>
  `<｜tool▁call▁begin｜>function<｜tool▁sep｜>${name}\n\`\`\`json\n${args}\n\`\`\`<｜tool▁call▁end｜>`;
const V31 = (name: string, args: string): string => `<｜tool▁call▁begin｜>${name}<｜tool▁sep｜>${args}<｜tool▁call▁end｜>`;
const K2 = (id: string, args: string): string => `<|tool_call_begin|>${id}<|tool_call_argument_begin|>${args}<|tool_call_end|>`;
const DSML = (name: string, parameters: string): string => `<｜DSML｜invoke name="${name}">\n${parameters}</｜DSML｜invoke>\n`;
const P = (name: string, isString: boolean, value: string): string =>
  `<｜DSML｜parameter name="${name}" string="${isString}">${value}</｜DSML｜parameter>\n`;

const PARIS = '{"city": "Paris", "days": [1, 2.5e3, {"a": null}]}';

describe('calls', () => {
  it.each([
    ['hermes', hermes, `<tool_call>\n{"name": "get_weather", "arguments": ${PARIS}}\n</tool_call>`],
    ['hermes, arguments first', hermes, `<tool_call>{"arguments": ${PARIS}, "name": "get_weather"}</tool_call>`],
    ['hermes, last brace forgotten', hermes, `<tool_call>{"name": "get_weather", "arguments": ${PARIS}</tool_call>`],
    ['hermes, a brace too many', hermes, `<tool_call>{"name": "get_weather", "arguments": ${PARIS}}}</tool_call>`],
    ['hermes, end mark forgotten', hermes, `<tool_call>{"name": "get_weather", "arguments": ${PARIS}}`],
    [
      'hermes, other keys',
      hermes,
      `<tool_call>{"id": 7, "type": "x", "name": "get_weather", "arguments": ${PARIS}, "y": [1]}</tool_call>`,
    ],
    ['hermes, JSON in a string', hermes, `<tool_call>{"name": "get_weather", "arguments": ${JSON.stringify(PARIS)}}</tool_call>`],
    ['llama', llama3, `{"name": "get_weather", "parameters": ${PARIS}}`],
    ['llama with its tag', llama3, `<|python_tag|>{"name": "get_weather", "parameters": ${PARIS}}`],
    ['deepseek v3', deepseekV3, `<｜tool▁calls▁begin｜>${V3('get_weather', PARIS)}<｜tool▁calls▁end｜>`],
    ['deepseek v3.1', deepseekV31, `<｜tool▁calls▁begin｜>${V31('get_weather', PARIS)}<｜tool▁calls▁end｜>`],
    ['kimi k2', kimiK2, `<|tool_calls_section_begin|>${K2('functions.get_weather:0', PARIS)}<|tool_calls_section_end|>`],
  ])('%s: name and arguments as the model wrote them', (_name, format, text) => {
    expect(read(format, text)).toEqual({ content: '', calls: [['get_weather', PARIS, true]] });
  });

  it('of DeepSeek V3.2 become JSON', () => {
    const text = `<｜DSML｜function_calls>\n${DSML(
      'get_weather',
      P('city', true, 'a "b"\n</x>') + P('n', false, '-5') + P('list', false, '[1, {"x": true}]'),
    )}${DSML('add', '')}</｜DSML｜function_calls>`;
    const { calls, content } = read(deepseekV32, text);
    expect([content, calls.map(([name, , valid]) => [name, valid])]).toEqual([
      '',
      [
        ['get_weather', true],
        ['add', true],
      ],
    ]);
    expect(calls.map(([, args]) => JSON.parse(args) as unknown)).toEqual([
      { city: 'a "b"\n</x>', n: -5, list: [1, { x: true }] },
      {},
    ]);
  });

  it('of Qwen 3 Coder become JSON, strings and others by the schema; the outer mark may be missing', () => {
    const q = (name: string, value: string): string => `<parameter=${name}>\n${value}\n</parameter>\n`;
    const call = `<function=get_weather>\n${q('city', 'a "b"\n\n</x>\n')}${q('n', '-5')}${q('list', '[1, {"x": true}]')}${q('flag', 'True')}</function>`;
    const other = `<function=add>\n${q('n', 'five')}<parameter=e></parameter><parameter=f>\n</parameter>${q('g', '12')}</function>`;
    const expected = [
      { city: 'a "b"\n\n</x>\n', n: -5, list: [1, { x: true }], flag: true },
      { n: 'five', e: '', f: '', g: '12' },
    ];
    for (const text of [
      `<tool_call>\n${call}\n</tool_call>\n<tool_call>\n${other}\n</tool_call>`,
      `${call}\n</tool_call>${other}`,
    ]) {
      const { calls, content } = read(qwen3Coder, text);
      expect([content, calls.map(([name, , valid]) => [name, valid])]).toEqual([
        '',
        [
          ['get_weather', true],
          ['add', true],
        ],
      ]);
      expect(calls.map(([, args]) => JSON.parse(args) as unknown)).toEqual(expected);
    }
  });

  it('of Llama in Python become JSON', () => {
    const text = `[get_weather(city='a "b" \\'c\\' \\n \\u00e9 \\d', days=[1, -2.5e3, True], more={'k': None, "l": ["x"]}), add(), add( n = 5 )]`;
    const { calls, content } = read(pythonic, text);
    expect([content, calls.map(([name, , valid]) => [name, valid])]).toEqual([
      '',
      [
        ['get_weather', true],
        ['add', true],
        ['add', true],
      ],
    ]);
    expect(calls.map(([, args]) => JSON.parse(args) as unknown)).toEqual([
      { city: 'a "b" \'c\' \n é \\d', days: [1, -2500, true], more: { k: null, l: ['x'] } },
      {},
      { n: 5 },
    ]);
    expect(read(pythonic, '[add(n=1), rm(n=2)] x')).toEqual({ content: ', rm(n=2)] x', calls: [['add', '{"n": 1}', true]] });
    expect(read(pythonic, '[add(n=1, *x)]')).toEqual({ content: '*x)]', calls: [['add', '{"n": 1', false]] });
    expect(read(pythonic, '[add(n=(1, 2))]').calls[0]?.[2]).toBe(false);
  });

  it.each([
    [
      'hermes',
      hermes,
      ['<tool_call>{"name": "add", "arguments": {}}</tool_call>', '\n', '<tool_call>{"name": "add"}</tool_call>'],
    ],
    [
      'hermes, an end mark forgotten',
      hermes,
      ['<tool_call>{"name": "add", "arguments": {}}\n', '<tool_call>{"name": "add"}</tool_call>'],
    ],
    ['llama', llama3, ['{"name": "add", "parameters": {}}', '; ', '{"name": "add", "parameters": null}']],
    ['deepseek v3', deepseekV3, ['<｜tool▁calls▁begin｜>', V3('add', '{}'), '\n', V3('add', ''), '<｜tool▁calls▁end｜>']],
    ['deepseek v3.1', deepseekV31, ['<｜tool▁calls▁begin｜>', V31('add', '{}'), V31('add', ' {} '), '<｜tool▁calls▁end｜>']],
    [
      'kimi k2',
      kimiK2,
      ['<|tool_calls_section_begin|>', K2('functions.add:0', '{}'), K2('add:1', '{}'), '<|tool_calls_section_end|>'],
    ],
  ])('%s: several, counted, without the space between them', (_name, format, text) => {
    const added = ['add', '{}', true];
    expect(read(format, text.join(''))).toEqual({ content: '', calls: [added, added] });
    expect(parts(format, text, { parallel: false }).filter(({ kind }) => kind === 'call')).toHaveLength(1);
  });

  it('have ids of their own, or those that the model gave', () => {
    const ids = (format: CallFormat, text: string) =>
      parts(format, [text]).flatMap((part) => (part.kind === 'call' ? [part.id] : []));
    expect(ids(hermes, '<tool_call>{"name": "add"}</tool_call>'.repeat(2))).toEqual(['id-0', 'id-1']);
    const twice = K2('functions.add:0', '{}') + K2('functions.add:0', '{}') + K2('functions.odd:1', '{}');
    expect(ids(kimiK2, `<|tool_calls_section_begin|>${twice}<|tool_calls_section_end|>`)).toEqual([
      'functions.add:0',
      'id-0',
      'functions.odd:1',
    ]);
  });

  it('stand among content, which keeps its space', () => {
    const text = 'Let me see.\n<tool_call>{"name": "add"}</tool_call>\nThere: a < b <tool';
    expect(read(hermes, text)).toEqual({ content: 'Let me see.\n\nThere: a < b <tool', calls: [['add', '{}', true]] });
    expect(read(hermes, '\n\n<tool_call>{"name": "add"}</tool_call>\n').content).toBe('');
    expect(read(hermes, '\n Only text \n')).toEqual({ content: '\n Only text \n', calls: [] });
  });
});

describe('text that looks like a call and is none', () => {
  it.each([
    ['no JSON', hermes, '<tool_call>sorry</tool_call>'],
    ['a mark and nothing', hermes, 'use <tool_call>'],
    ['a tool that nobody gave', hermes, '<tool_call>{"name": "rm", "arguments": {"a": 1}}</tool_call>'],
    ['a name that is no text', hermes, '<tool_call>{"name": 7, "arguments": {}}</tool_call>'],
    ['no name', hermes, '<tool_call>{"arguments": {"a": 1}}</tool_call>'],
    ['some other JSON', llama3, '{"answer": 42, "name": "add"}'],
    ['code for the interpreter', llama3, '<|python_tag|>brave_search.call(query="x")'],
    ['a call that is not the answer itself', llama3, 'I would call {"name": "add", "parameters": {}}'],
    ['a list of something else', pythonic, '[1, 2, 3]'],
    ['a tool that nobody gave, in Python', pythonic, '[rm(a=1)]'],
    ['no names of arguments', pythonic, '[add(1, 2)]'],
    ['an endless name', hermes, `<tool_call>{"name": "${'x'.repeat(5000)}"}</tool_call>`],
    ['a mark alone', deepseekV3, '<｜tool▁calls▁begin｜>hm<｜tool▁calls▁end｜>'],
    ['no mark before the arguments', deepseekV31, `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add {}<｜tool▁call▁end｜>`],
    ['a tool that nobody gave, V3', deepseekV3, `<｜tool▁calls▁begin｜>${V3('rm', '{}')}`],
    ['a tool that nobody gave, K2', kimiK2, `<|tool_calls_section_begin|>${K2('functions.rm:0', '{}')}`],
    ['a tool that nobody gave, V3.2', deepseekV32, `<｜DSML｜function_calls>${DSML('rm', P('a', true, 'x')).trimEnd()}`],
  ])('is content to the last letter: %s', (_name, format, text) => {
    expect(read(format, text)).toEqual({ content: text, calls: [] });
  });

  it('hides no call behind it', () => {
    const text = `<tool_call>bad <tool_call>{"name": "add"}</tool_call>`;
    expect(read(hermes, text)).toEqual({ content: '<tool_call>bad ', calls: [['add', '{}', true]] });
    const section = `<|tool_calls_section_begin|>${K2('functions.rm:0', '{"a": 1}')}${K2('functions.add:1', '{}')}<|tool_calls_section_end|>`;
    expect(read(kimiK2, section)).toMatchObject({ calls: [['add', '{}', true]] });
    expect(read(kimiK2, section).content).toContain('functions.rm:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>');
  });

  it.each([
    ['hermes', hermes, '<tool_call>{"name": "add", "arguments": {"a": 1]}}</tool_call> after', '{"a": 1]}}', ' after'],
    ['hermes, cut', hermes, '<tool_call>{"name": "add", "arguments": {"a": "tr', '{"a": "tr', ''],
    ['llama, cut', llama3, '{"name": "add", "parameters": {"a": ', '{"a": ', ''],
    ['kimi', kimiK2, `<|tool_calls_section_begin|>${K2('functions.add:0', '{a}')}<|tool_calls_section_end|>`, '{a}', ''],
    ['deepseek v3.1, cut', deepseekV31, '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a"', '{"a"', ''],
  ])(
    '%s: arguments that are no JSON come as they are, and a whole answer has them as content',
    (_name, format, text, args, after) => {
      expect(read(format, text)).toEqual({ content: after, calls: [['add', args, false]] });
      const message = new AnswerMessage();
      message.add(parts(format, [text]));
      const { content } = message.toJson() as { content: string };
      expect(text.replace('<|tool_calls_section_end|>', '')).toBe(content);
      expect(message.finishReason('tool_calls')).toBe('stop');
    },
  );
});

const FORMATS = { hermes, qwen3Coder, pythonic, llama3, deepseekV3, deepseekV31, deepseekV32, kimiK2 };
/** Pieces of which texts are made that are almost calls. */
const pieces = (format: CallFormat): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...format.marks) },
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        '{"name": "add", "arguments": {"a": "x\\"y"}}',
        '{"name": "add", "parameters": ',
        '{"arguments": [1, "<tool_call>"], "name": "add"}',
        'function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```',
        'add',
        'functions.add:0',
        ' name="add">',
        'add>',
        'a>\n',
        'n>',
        'True',
        '[add(a=1)',
        '[add(',
        'add(',
        ')',
        ', ',
        "b='x\\'y'",
        'c={"k": [None, -1e3]}',
        ' name="a" string="true">',
        ' name="b" string="false">',
        '{"a": {"b": [true, null, -0.5e1]}}',
        '{}',
        '}',
        ']',
        '; ',
        '\n',
        ' ',
        '```json',
        '```',
        '12',
      ),
    },
    { weight: 2, arbitrary: fc.string({ maxLength: 6 }) },
    { weight: 1, arbitrary: fc.string({ unit: 'grapheme', maxLength: 4 }) },
  );

/** Cuts between characters. */
function cut(text: string, lengths: readonly number[]): string[] {
  const characters = Array.from(text);
  const all: string[] = [];
  for (let at = 0, turn = 0; at < characters.length; turn++) {
    const length = lengths.length === 0 ? 1 : (lengths[turn % lengths.length] ?? 1);
    all.push(characters.slice(at, at + length).join(''));
    at += length;
  }
  return all;
}

describe.each(Object.entries(FORMATS))('any text, read by %s', (_name, format) => {
  const text = fc.array(pieces(format), { maxLength: 14 }).map((all) => all.join(''));

  it('gives the same parts however it is cut', () => {
    fc.assert(
      fc.property(text, fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 5 }), fc.boolean(), (whole, lengths, parallel) => {
        expect(parts(format, cut(whole, lengths), { parallel })).toEqual(parts(format, [whole], { parallel }));
      }),
      { numRuns: 1500 },
    );
  });

  it('is calls of the tools alone, valid ones JSON, each begun, continued and ended in turn', () => {
    fc.assert(
      fc.property(text, (whole) => {
        let open: number | undefined;
        let count = 0;
        for (const part of parts(format, [whole])) {
          if (part.kind === 'content') continue;
          if (part.kind === 'call') {
            expect([open, part.index, TOOLS.includes(part.name)]).toEqual([undefined, count++, true]);
            open = part.index;
          } else if (part.kind === 'call_end') {
            expect(part.index).toBe(open);
            open = undefined;
          } else expect('index' in part && part.index).toBe(open);
        }
        expect(open).toBeUndefined();
        for (const [, args, valid] of summary(parts(format, [whole])).calls) if (valid === true) JSON.parse(args);
      }),
      { numRuns: 1000 },
    );
  });

  it('loses no letter when it has no call', () => {
    fc.assert(
      fc.property(text, (whole) => {
        const { content, calls } = read(format, whole);
        if (calls.length === 0) expect(content).toBe(whole);
      }),
      { numRuns: 1000 },
    );
  });
});

it('reads a long text in time that grows with its length', () => {
  const seconds = (length: number): number => {
    const big = `{"text": "${'lorem <tool_call> ipsum '.repeat(length)}"}`;
    const all = [hermes, deepseekV31].map((format) => {
      const whole =
        format === hermes
          ? `<tool_call>{"name": "add", "arguments": ${big}}</tool_call>`
          : `<｜tool▁calls▁begin｜>${V31('add', big)}`;
      const tokens = cut(whole, [3]);
      const start = performance.now();
      expect(summary(parts(format, tokens)).calls).toEqual([['add', big, true]]);
      return performance.now() - start;
    });
    return Math.min(...all);
  };
  seconds(500);
  const [one, eight] = [seconds(2000), seconds(16_000)];
  expect(eight / one).toBeLessThan(40);
});
