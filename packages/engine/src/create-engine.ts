import { fail } from '@causeway/errors';
import { isWireOrder, keepsTokens, type LayerGeometry, type LayerRange } from '@causeway/kv';
import { ReservationLine } from './admission.ts';
import { LEAST_CHUNK_TOKENS, usedChunkTokens } from './chunks.ts';
import { RunningEngine } from './engine.ts';
import { EngineLoop } from './engine-loop.ts';
import { checkBlocks, type EngineParts } from './engine-parts.ts';
import { attentionLimits } from './device-attention.ts';
import { DevicePacker } from './device-packing.ts';
import { EngineDevice } from './engine-device.ts';
import { Executor } from './executor.ts';
import { AnswerLengths } from './growth.ts';
import { LoopTime } from './loop-time.ts';
import type { EngineOptions } from './options.ts';
import { Packer } from './packing.ts';
import { PageStage } from './page-stage.ts';
import { PromptScorer } from './prompt-scorer.ts';
import { Sampler } from './sampler.ts';
import type { SlotPacker } from './slot-packer.ts';
import { Slots } from './slots.ts';
import { storedLayers } from './stored-layers.ts';
import type { Engine, Sampling } from './types.ts';

/**
 * Builds the sessions, slots and loop of an engine, and releases the model's weights once the sessions have packed them.
 * @throws ServiceError `invalid_argument/bad_config` for limits that make no sense, `runtime` with ONNX Runtime's message.
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const { runtime, model, info, pool } = options;
  positive('maxSequences', options.maxSequences, 1);
  positive('maxContext', options.maxContext, 1);
  positive('chunkTokens', options.chunkTokens, LEAST_CHUNK_TOKENS);
  const { blockTokens, dtype } = pool.descriptor.storage;
  checkLayers(pool.descriptor.layers);
  const maxContext = Math.min(options.maxContext, info.contextLength, pool.totalPages * blockTokens);
  const time = new LoopTime();
  const debug = options.debug ?? {};
  await using resources = new AsyncDisposableStack();
  const device = options.provider === undefined ? undefined : resources.use(await EngineDevice.open(runtime, options.provider));
  const limits = device && (await attentionLimits(runtime, device, pool.descriptor.layers, options.chunkTokens));
  const chunkTokens = usedChunkTokens(limits?.chunkTokens ?? options.chunkTokens, maxContext);

  const apart = limits?.together === false;
  const slots = resources.use(
    new Slots(
      {
        descriptor: pool.descriptor,
        maxSequences: options.maxSequences,
        capacity: Math.ceil(maxContext / blockTokens) * blockTokens,
        device: device?.memory,
        apart,
      },
      time,
    ),
  );
  await device?.touch(slots);
  const newStage = (): PageStage => resources.use(new PageStage(pool, STAGE_BYTES));
  let pack: (compare: boolean, layers?: LayerRange) => Promise<SlotPacker>;
  if (device === undefined) {
    const stage = isWireOrder(pool.descriptor.storage) ? undefined : newStage();
    pack = (compare, layers) => Packer.create({ runtime, slots, pool, time, stage, compare, ...(layers && { layers }) });
  } else {
    const stage = newStage();
    pack = (_, layers) => DevicePacker.create({ runtime, provider: device.provider, slots, blockTokens, time, stage, layers });
  }
  const packer = resources.use(await pack(debug.checkPages === true));
  const groups = options.layerGroups ?? 1;
  const stored = await storedLayers({ model, groups, whole: packer, packer: (layers) => pack(false, layers) }, resources);
  const largest = [
    { batch: options.maxSequences, tokens: 1, logitRows: options.maxSequences },
    { batch: 1, tokens: chunkTokens, logitRows: chunkTokens },
  ];
  const executor = resources.use(
    await Executor.create({
      runtime,
      model,
      slots,
      time,
      largest,
      experts: options.experts,
      threads: options.threads,
      profile: debug.profile,
      provider: device?.provider,
      apart,
    }),
  );
  const scorer = resources.use(await PromptScorer.create({ runtime, vocabSize: model.vocabSize, time }));
  model.releaseWeights();
  const parts: EngineParts = {
    executor,
    packer,
    stored,
    slots,
    sampler: await warmSampler(model.vocabSize),
    scorer,
    time,
    hooks: options.hooks ?? {},
    constraints: options.constraints,
    debug,
    maxSequences: options.maxSequences,
    maxContext,
    chunkTokens,
    blockTokens,
    eosTokenIds: info.eosTokenIds,
    lossless: dtype === 'f32' || model.kvRounding !== undefined,
    wake: () => loop.wake(),
    checkBlocks: (blocks) => checkBlocks(packer, blocks),
  };
  const lengths = new AnswerLengths(options.initialGrowth ?? 128);
  const line = new ReservationLine(pool, options.maxWaiting ?? 256);
  const loop = new EngineLoop(parts, line, lengths);
  return new RunningEngine({ info, pool, parts, loop, lengths, resources: resources.move() });
}

/** Pages between slots and pages in a chip's own storage. */
const STAGE_BYTES = 8 << 20;

/** Rows after which V8 has compiled the sampler's loops. */
const WARM_ROWS = 6;
const WARM_SAMPLING: Sampling = {
  temperature: 0.7,
  topP: 0.9,
  topK: 100,
  seed: 0n,
  minP: 0.001,
  repetitionPenalty: 1.1,
  presencePenalty: 0.1,
};

/** A sampler whose loops are compiled: in a cold one the first row of a large vocabulary takes tens of milliseconds. */
async function warmSampler(vocabSize: number): Promise<Sampler> {
  const sampler = new Sampler(vocabSize);
  const logits = Float32Array.from({ length: vocabSize }, (_, id) => (Math.imul(id, 0x9e3779b1) >>> 8) / 0x200000);
  const known = { ids: Array.from({ length: Math.min(vocabSize, 1000) }, (_, id) => id), answer: 0 };
  for (let row = 0; row < WARM_ROWS; row++) {
    sampler.sample(logits, WARM_SAMPLING, row, known);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  return sampler;
}

/** Slots hold the tokens of every layer, and nothing else. */
function checkLayers(layers: readonly LayerGeometry[]): void {
  const odd = layers.findIndex((layer) => !keepsTokens(layer) || layer.entries !== undefined || layer.states !== undefined);
  if (odd < 0) return;
  const message = `layer ${odd} has a window, entries or states: the engine runs layers that keep all tokens and nothing else`;
  fail('unimplemented', 'unsupported_format', message);
}

function positive(name: 'maxSequences' | 'maxContext' | 'chunkTokens', value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  fail('invalid_argument', 'bad_config', `the engine's ${name} is ${value}; it must be an integer of at least ${least}`);
}
