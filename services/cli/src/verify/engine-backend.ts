import type { Generation } from '@causeway/engine';
import { type EngineRecipe, loadEngine } from '@causeway/worker-runtime';
import type { VerifyBackend } from './backend.ts';

/** A greedy generation of `maxTokens` that returns its logits. */
export function greedyGeneration(prompt: readonly number[], maxTokens: number, ignoreEos: boolean): Generation {
  return {
    promptIds: Uint32Array.from(prompt),
    replayIds: new Uint32Array(0),
    maxTokens,
    stopTokenIds: [],
    ignoreEos,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
    returnLogits: true,
  };
}

/** The engine in this process. */
export async function engineBackend(recipe: EngineRecipe): Promise<VerifyBackend> {
  const loaded = await loadEngine(recipe);
  const { engine } = loaded;
  const signal = new AbortController().signal;
  return {
    name: 'engine alone',
    greedy: async (prompt, maxTokens, ignoreEos) => {
      const generation = greedyGeneration(prompt, maxTokens, ignoreEos);
      using pages = await engine.reserve(engine.room(generation), signal);
      const { first } = await engine.prefill(generation, pages, signal);
      if (first === undefined) return [];
      const tokens = [{ id: first.id, logits: first.logits as Float32Array }];
      if (first.finishReason !== undefined) return tokens;
      for await (const token of engine.decode(generation, pages, first, signal)) {
        tokens.push({ id: token.id, logits: token.logits as Float32Array });
      }
      return tokens;
    },
    rows: async (ids, lengths, onRow) => {
      const wanted = new Set(lengths);
      const { vocabSize } = engine.info;
      await engine.logits(Uint32Array.from(ids), (start, logits) => {
        for (let row = 0; row * vocabSize < logits.length; row++) {
          const length = start + row + 1;
          if (wanted.has(length)) onRow(length, logits.subarray(row * vocabSize, (row + 1) * vocabSize));
        }
      });
    },
    [Symbol.asyncDispose]: () => loaded[Symbol.asyncDispose](),
  };
}
