import { readFileSync } from 'node:fs';
import { REASONING_PARSERS, TOOL_PARSERS } from '@causeway/config';
import { describe, expect, it } from 'vitest';
import { outputFormat, spokenMarks } from './output-format.ts';
import { deepseekV3, deepseekV31 } from './tool-calls/deepseek-v3.ts';
import { deepseekV32 } from './tool-calls/deepseek-v32.ts';
import { hermes } from './tool-calls/hermes.ts';
import { kimiK2 } from './tool-calls/kimi-k2.ts';
import { llama3 } from './tool-calls/llama3.ts';
import { pythonic } from './tool-calls/pythonic.ts';
import { qwen3Coder } from './tool-calls/qwen3-coder.ts';

const auto = { toolParser: 'auto', reasoningParser: 'auto' } as const;
const family = (name: string): string =>
  readFileSync(new URL(`../../../../tests/chat-templates/${name}.jinja`, import.meta.url), 'utf8');

describe('the format of answers', () => {
  it.each([
    ['qwen3', hermes, true],
    ['llama3', llama3, false],
    ['qwen3-coder', qwen3Coder, false],
    ['deepseek-r1', deepseekV3, true],
    ['deepseek-v31', deepseekV31, true],
    ['deepseek-v32', deepseekV32, true],
    ['kimi-k2-thinking', kimiK2, true],
  ])('is found in a template of the form of %s', (name, calls, thinks) => {
    expect(outputFormat(family(name), auto)).toEqual({ calls, thinks });
  });

  it('is Python where the template tells the model so', () => {
    const text = '<|start_header_id|>system<|end_header_id|>[func_name1(params_name1=params_value1), func_name2(params)]';
    expect(outputFormat(text, auto).calls).toBe(pythonic);
  });

  it.each([
    ['no template', undefined],
    ['one without tools', '{% for m in messages %}{{ m.content }}{% endfor %}'],
    ['other things in the same marks', '<tool_call>{{ name }}<arg_key>'],
    ['Llama without tools', '<|start_header_id|>{{ role }}<|end_header_id|>'],
  ])('is unknown with %s', (_what, text) => {
    expect(outputFormat(text, auto)).toEqual({ calls: undefined, thinks: false });
  });

  it('is what the settings say, whatever the template', () => {
    for (const toolParser of TOOL_PARSERS) {
      const { calls } = outputFormat(family('qwen3'), { ...auto, toolParser });
      expect(calls === undefined).toBe(toolParser === 'none');
      if (toolParser === 'kimi_k2') expect(calls).toBe(kimiK2);
    }
    const thinks = REASONING_PARSERS.map((reasoningParser) => outputFormat('x', { ...auto, reasoningParser }).thinks);
    expect(thinks).toEqual([false, false, true]);
    expect(outputFormat(family('qwen3'), { ...auto, reasoningParser: 'none' }).thinks).toBe(false);
  });

  it('names all marks, which may be special tokens', () => {
    const marks = spokenMarks(outputFormat(family('kimi-k2-thinking'), auto));
    expect(marks).toEqual(expect.arrayContaining(['<|tool_call_begin|>', '<|tool_call_end|>', '<think>', '</think>']));
    expect(spokenMarks({ calls: undefined, thinks: false })).toEqual([]);
  });
});
