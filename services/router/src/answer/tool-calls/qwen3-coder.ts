/**
 * `<tool_call><function=NAME><parameter=KEY>` with values on lines of their own: Qwen 3 Coder (its chat template). Whether a value is
 * text or JSON is for the tool's schema to say. The outer mark is often forgotten.
 */
import { tagged } from './tagged.ts';

export const qwen3Coder = tagged({
  begins: ['<tool_call>', '<function='],
  end: '</tool_call>',
  call: '<function=',
  callEnd: '</function>',
  parameter: '<parameter=',
  parameterEnds: ['\n</parameter>', '</parameter>'],
  endsReasoning: false,
  valueBegin: '\n',
  toolName: (tag) => tag.trim(),
  parameterOf: (tag, isJson) => {
    const name = tag.trim();
    return { name, isJson: isJson(name) };
  },
});
