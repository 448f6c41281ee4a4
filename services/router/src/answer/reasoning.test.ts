import type { AnswerPart } from '@causeway/openai';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OutputParser } from './output-parser.ts';
import type { ReasoningStart } from './reasoning.ts';
import { hermes } from './tool-calls/hermes.ts';
import { kimiK2 } from './tool-calls/kimi-k2.ts';

type Calls = 'none' | 'hermes' | 'kimi';

function parser(start: ReasoningStart, calls: Calls = 'none'): OutputParser {
  const format = calls === 'hermes' ? hermes : kimiK2;
  const options =
    calls === 'none' ? undefined : { format, tools: [{ name: 'add', jsonParameters: [] }], parallel: true, newId: () => 'id' };
  return new OutputParser({ reasoning: start, calls: options });
}

interface Read {
  reasoning: string;
  content: string;
  calls: number;
}

function read(start: ReasoningStart, pieces: readonly string[], calls: Calls = 'none'): Read {
  const subject = parser(start, calls);
  const all: AnswerPart[] = [...pieces.flatMap((piece) => subject.push(piece)), ...subject.end()];
  const text = (kind: 'reasoning' | 'content') => all.map((part) => (part.kind === kind ? part.text : '')).join('');
  return { reasoning: text('reasoning'), content: text('content'), calls: all.filter(({ kind }) => kind === 'call').length };
}

const call = '<tool_call>{"name": "add"}</tool_call>';
const section = '<|tool_calls_section_begin|><|tool_call_begin|>add:0<|tool_call_argument_begin|>{}<|tool_call_end|>';

describe('reasoning', () => {
  it.each([
    ['open', 'Let me think.\n</think>\n\nParis.', 'Let me think.', 'Paris.'],
    ['open', '\n two\n\nlines \n</think> x', 'two\n\nlines', 'x'],
    ['open', '<think>\nagain</think>x', 'again', 'x'],
    ['open', 'never closed', 'never closed', ''],
    ['open', '</think>x', '', 'x'],
    ['open', 'a < b <think> c </thin', 'a < b <think> c </thin', ''],
    ['possible', '<think>\nHm\n</think>\n\nParis. <think>no</think>', 'Hm', 'Paris. <think>no</think>'],
    ['possible', '\n\n<think>Hm</think>Paris', 'Hm', 'Paris'],
    ['possible', 'Paris. <think>no</think>', '', 'Paris. <think>no</think>'],
    ['possible', '<thin', '', '<thin'],
    ['possible', '\n Paris\n', '', '\n Paris\n'],
    ['possible', '<think>\n\n</think>\n\nParis', '', 'Paris'],
  ] as const)('%s: %j', (start, text, reasoning, content) => {
    expect(read(start, [text])).toEqual({ reasoning, content, calls: 0 });
  });

  it('comes before calls, and calls in it are none', () => {
    expect(read('open', [`I write ${call}\n</think>\n\n${call}`], 'hermes')).toEqual({
      reasoning: `I write ${call}`,
      content: '',
      calls: 1,
    });
  });

  it('ends where marks of calls stand that are tokens of their own', () => {
    expect(read('open', [`I add.${section}`], 'kimi')).toEqual({ reasoning: 'I add.', content: '', calls: 1 });
  });

  it('is passed on as it comes, but for what may be its end', () => {
    const subject = parser('open');
    expect(subject.push('one')).toEqual([{ kind: 'reasoning', text: 'one' }]);
    expect(subject.push(' <')).toEqual([]);
    expect(subject.push('b')).toEqual([{ kind: 'reasoning', text: ' <b' }]);
    expect(subject.push('\n</think>')).toEqual([]);
    expect(subject.push('two')).toEqual([{ kind: 'content', text: 'two' }]);
  });

  it('is counted in tokens, marks left out', () => {
    const subject = parser('possible');
    for (const token of ['<think>', '\n', 'a', ' b', '</think>', '\n\n', 'c']) subject.push(token);
    expect(subject.reasoningTokens).toBe(3);
    const open = parser('open');
    for (const token of ['a', ' b', '</think>', 'c']) open.push(token);
    expect(open.reasoningTokens).toBe(2);
    expect(new OutputParser({ reasoning: undefined, calls: undefined }).reasoningTokens).toBeUndefined();
  });

  it('can be left out', () => {
    const subject = new OutputParser({ reasoning: 'open', withReasoning: false, calls: undefined });
    expect([...subject.push('hm'), ...subject.push('</think>x'), ...subject.end()]).toEqual([{ kind: 'content', text: 'x' }]);
    expect(subject.reasoningTokens).toBe(1);
  });

  it('is the same however the text is cut', () => {
    const piece = fc.constantFrom('<think>', '</think>', call, section, 'a', ' ', '\n', '\u3000', '<', '</thi', 'b c', '😀');
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 10 }).map((all) => all.join('')),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom<ReasoningStart>('open', 'possible'),
        fc.constantFrom<Calls>('none', 'hermes', 'kimi'),
        (text, lengths, start, calls) => {
          const characters = Array.from(text);
          const pieces: string[] = [];
          for (let at = 0, turn = 0; at < characters.length; turn++) {
            const length = lengths[turn % lengths.length] ?? 1;
            pieces.push(characters.slice(at, at + length).join(''));
            at += length;
          }
          expect(read(start, pieces, calls)).toEqual(read(start, [text], calls));
        },
      ),
      { numRuns: 3000 },
    );
  });
});
