import { fail } from '@causeway/errors';
import type { TokenConstraints } from '@causeway/grammar';
import type { Executor } from './executor.ts';
import type { LoopTime } from './loop-time.ts';
import type { EngineDebug, EngineHooks } from './options.ts';
import type { BlockPlace, SlotPacker } from './slot-packer.ts';
import type { PromptScorer } from './prompt-scorer.ts';
import type { Sampler } from './sampler.ts';
import type { Slots } from './slots.ts';
import type { StoredLayers } from './stored-layers.ts';

/** What the parts of one engine share. */
export interface EngineParts {
  executor: Executor;
  /** Of all layers. */
  packer: SlotPacker;
  /** What prefill stores after which segment; at least one group, all layers together. */
  stored: readonly StoredLayers[];
  slots: Slots;
  sampler: Sampler;
  scorer: PromptScorer;
  time: LoopTime;
  hooks: EngineHooks;
  constraints: Pick<TokenConstraints, 'open'> | undefined;
  debug: EngineDebug;
  maxSequences: number;
  maxContext: number;
  chunkTokens: number;
  blockTokens: number;
  eosTokenIds: readonly number[];
  /** Pages hold exactly what slots hold: they are f32, or the model's graphs round what they write. */
  lossless: boolean;
  /** There is work: the loop goes on. */
  wake(): void;
  /** Debug: throws ServiceError `internal` unless these blocks of slots equal their decoded pages bit for bit. */
  checkBlocks(blocks: readonly BlockPlace[]): Promise<void>;
}

/** The debug check behind EngineParts.checkBlocks. */
export async function checkBlocks(packer: SlotPacker, blocks: readonly BlockPlace[]): Promise<void> {
  const wrong = await packer.difference(blocks);
  if (wrong === undefined) return;
  fail('internal', 'internal', `slot row ${wrong.row}, block at token ${wrong.token}: differs from page ${wrong.page}`);
}
