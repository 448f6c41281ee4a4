/**
 * `<｜DSML｜function_calls>` with `<｜DSML｜invoke name="...">` and `<｜DSML｜parameter name="..." string="true|false">`: DeepSeek V3.2
 * (deepseek-ai/DeepSeek-V3.2, encoding). Strings stand there as they are, everything else as JSON.
 */
import { tagged } from './tagged.ts';

export const deepseekV32 = tagged({
  begins: ['<｜DSML｜function_calls>'],
  end: '</｜DSML｜function_calls>',
  call: '<｜DSML｜invoke',
  callEnd: '</｜DSML｜invoke>',
  parameter: '<｜DSML｜parameter',
  parameterEnds: ['</｜DSML｜parameter>'],
  others: ['｜DSML｜'],
  endsReasoning: true,
  toolName: (tag) => attribute(tag, 'name') ?? '',
  parameterOf: (tag) => ({ name: attribute(tag, 'name') ?? '', isJson: attribute(tag, 'string') === 'false' }),
});

/** Value of an attribute; DSML has no escapes in it. */
function attribute(tag: string, name: string): string | undefined {
  const start = tag.indexOf(` ${name}="`);
  if (start === -1) return undefined;
  const from = start + name.length + 3;
  const end = tag.indexOf('"', from);
  return end === -1 ? undefined : tag.slice(from, end);
}
