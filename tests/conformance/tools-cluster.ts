/** A router with a model that knows tools, and scripted workers that write what such models write. */
import type OpenAI from 'openai';
import { type Harness, startHarness } from './harness.ts';
import { type MarkedModel, markedModel } from './marked-model.ts';

type Tool = OpenAI.Chat.Completions.ChatCompletionTool;
type Message = OpenAI.Chat.Completions.ChatCompletionMessageParam;

export const parameters = {
  type: 'object',
  properties: { city: { type: 'string', description: 'Where' }, days: { type: 'array', description: 'When' } },
  required: ['city'],
};
export const tools: Tool[] = [
  { type: 'function', function: { name: 'get_weather', description: 'Tells the weather', parameters } },
  { type: 'function', function: { name: 'add' } },
];
export const messages: Message[] = [{ role: 'user', content: 'What is the weather in Paris?' }];
export const ARGUMENTS = '{"city": "Zürich 😀", "days": [1, 2]}';

export interface Cluster extends AsyncDisposable {
  readonly harness: Harness;
  readonly model: MarkedModel;
  /** Lets every worker write this text, token by token, and end it as a model does. */
  write(text: string, more?: Partial<Parameters<Harness['play']>[0]>): number[];
}

export async function startCluster(
  template: string,
  env: Record<string, string> = {},
  workers = ['prefill-0', 'decode-0'],
): Promise<Cluster> {
  const model = await markedModel(template);
  const harness = await startHarness({
    workers,
    worker: { contextLength: 4096 },
    env: { CAUSEWAY_MODEL_PATH: model.path, CAUSEWAY_MODEL_NAME: 'tiny-moe', ...env },
  });
  return {
    harness,
    model,
    write: (text, more = {}) => {
      const answer = [...model.tokenizer.encodeRendered(text), 2];
      harness.play({ answer, endsWith: 'stop', ...more });
      return answer;
    },
    [Symbol.asyncDispose]: async () => {
      await harness[Symbol.asyncDispose]();
      model[Symbol.dispose]();
    },
  };
}

export const create = (cluster: Cluster, more: object = {}) =>
  cluster.harness.openai.chat.completions.create({
    model: 'tiny-moe',
    messages,
    tools,
    ...more,
  } as OpenAI.Chat.Completions.ChatCompletionCreateParamsNonStreaming);

/** Deltas as they come over the wire. */
export async function deltas(cluster: Cluster, more: object = {}) {
  const stream = await cluster.harness.openai.chat.completions.create({
    model: 'tiny-moe',
    messages,
    tools,
    ...more,
    stream: true,
  } as OpenAI.Chat.Completions.ChatCompletionCreateParamsStreaming);
  const all: (OpenAI.Chat.Completions.ChatCompletionChunk.Choice.Delta & { reasoning_content?: string })[] = [];
  let finish: string | null = null;
  for await (const chunk of stream) {
    const choice = chunk.choices[0];
    if (choice !== undefined) all.push(choice.delta);
    finish = choice?.finish_reason ?? finish;
  }
  return { all, finish };
}

export const prompt = (cluster: Cluster): string => {
  const ids = cluster.harness.fabric.of('reserve')[0]?.generation?.promptIds ?? [];
  return cluster.model.tokenizer.decodeAll(ids);
};
