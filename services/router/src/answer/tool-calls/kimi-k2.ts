/**
 * `<|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{...}<|tool_call_end|>...` up to
 * `<|tool_calls_section_end|>`: Kimi K2 (moonshotai/Kimi-K2-Instruct, docs/tool_call_guidance.md). What names the tool is also the
 * call's id, and the template expects it back.
 */
import { sectioned } from './sectioned.ts';

export const kimiK2 = sectioned({
  begins: ['<|tool_calls_section_begin|>', '<|tool_call_section_begin|>'],
  ends: ['<|tool_calls_section_end|>', '<|tool_call_section_end|>'],
  callBegin: '<|tool_call_begin|>',
  argumentsBegin: '<|tool_call_argument_begin|>',
  callEnd: '<|tool_call_end|>',
  named: (header, tools) => {
    const id = header.trim();
    const bare = id.replace(/:\d+$/, '');
    const name = tools.has(bare) ? bare : bare.replace(/^functions\./, '');
    return { name, id };
  },
});
