/** Names of what a topology file and the router both call by name: formats in which models write calls of tools, and reasoning. */

/** Those of vLLM's `--tool-call-parser`; `auto` goes by the chat template. */
export const TOOL_PARSERS = [
  'auto',
  'none',
  'hermes',
  'qwen3_coder',
  'llama3_json',
  'pythonic',
  'deepseek_v3',
  'deepseek_v31',
  'deepseek_v32',
  'kimi_k2',
] as const;
export type ToolParser = (typeof TOOL_PARSERS)[number];

/** `think` is `<think>` and `</think>`. */
export const REASONING_PARSERS = ['auto', 'none', 'think'] as const;
export type ReasoningParser = (typeof REASONING_PARSERS)[number];
