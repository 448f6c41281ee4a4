/** Which of the known formats a model writes, by its chat template or by the router's settings. */
import type { ReasoningParser, ToolParser } from '@causeway/config';
import type { CallFormat } from './tool-calls/call-sink.ts';
import { deepseekV3, deepseekV31 } from './tool-calls/deepseek-v3.ts';
import { deepseekV32 } from './tool-calls/deepseek-v32.ts';
import { hermes } from './tool-calls/hermes.ts';
import { kimiK2 } from './tool-calls/kimi-k2.ts';
import { llama3 } from './tool-calls/llama3.ts';
import { pythonic } from './tool-calls/pythonic.ts';
import { qwen3Coder } from './tool-calls/qwen3-coder.ts';
import { THINK_BEGIN, THINK_END } from './reasoning.ts';

const CALL_FORMATS: Readonly<Record<Exclude<ToolParser, 'auto' | 'none'>, CallFormat>> = {
  hermes,
  qwen3_coder: qwen3Coder,
  llama3_json: llama3,
  pythonic,
  deepseek_v3: deepseekV3,
  deepseek_v31: deepseekV31,
  deepseek_v32: deepseekV32,
  kimi_k2: kimiK2,
};

/** How a model marks calls and reasoning. */
export interface OutputFormat {
  /** Undefined: calls can't be told from text. */
  readonly calls: CallFormat | undefined;
  /** Answers may begin with reasoning in `<think>`. */
  readonly thinks: boolean;
}

/** `template` is the text of the chat template. */
export function outputFormat(
  template: string | undefined,
  settings: { readonly toolParser: ToolParser; readonly reasoningParser: ReasoningParser },
): OutputFormat {
  const { toolParser, reasoningParser } = settings;
  const detected = toolParser === 'auto' ? detectedFormat(template ?? '') : toolParser;
  return {
    calls: detected === 'none' ? undefined : CALL_FORMATS[detected],
    thinks: reasoningParser === 'think' || (reasoningParser === 'auto' && (template ?? '').includes(THINK_END)),
  };
}

/** Templates write earlier calls as the model writes its own, so its marks stand in them. */
function detectedFormat(template: string): Exclude<ToolParser, 'auto'> {
  const has = (text: string): boolean => template.includes(text);
  if (has('<|tool_call_argument_begin|>')) return 'kimi_k2';
  if (has('｜DSML｜')) return 'deepseek_v32';
  if (has('<｜tool▁calls▁begin｜>')) return has('```json') ? 'deepseek_v3' : 'deepseek_v31';
  if (has('<function=') && has('<parameter=')) return 'qwen3_coder';
  // GLM has the same mark around something else than JSON.
  if (has('<tool_call>') && !has('<arg_key>')) return 'hermes';
  if (has('<|start_header_id|>') && has('[func_name1(')) return 'pythonic';
  if (has('<|start_header_id|>') && has('"parameters": ')) return 'llama3_json';
  return 'none';
}

/** Special tokens that are text for whoever tells calls and reasoning apart. */
export function spokenMarks({ calls, thinks }: OutputFormat): readonly string[] {
  return [...(calls?.marks ?? []), ...(thinks ? [THINK_BEGIN, THINK_END] : [])];
}
