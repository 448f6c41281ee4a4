import { chipEmulated, chipFamily, chipProvider, chipStorage } from '@causeway/chips';
import {
  createEngine,
  type Engine,
  type EngineDebug,
  type EngineHooks,
  type EngineModelInfo,
  type ModelInfo,
} from '@causeway/engine';
import { fail } from '@causeway/errors';
import type { ExpertClient } from '@causeway/experts';
import {
  DESCRIPTOR_VERSION,
  fingerprint,
  type KvDescriptor,
  type KvDtype,
  type KvLayout,
  type LayerGeometry,
  layerGroups,
  PagePool,
  wireFormOf,
} from '@causeway/kv';
import { type Checkpoint, loadTokenizer, type ModelConfig, openCheckpoint } from '@causeway/model-files';
import { loadModel, type Precision } from '@causeway/models';
import { Runtime } from '@causeway/ort';
import { startConstraints } from './constraint.ts';
import { fitDevice } from './fit-device.ts';
import { planKvMemory } from './kv-budget.ts';

export interface EngineRecipe {
  modelPath: string;
  modelName?: string | undefined;
  chip: string;
  chipEmulated?: 'off' | 'on' | undefined;
  /** Folder of Vulkan's loader and driver, for family `webgpu`; default the system's. */
  vulkanDir?: string | undefined;
  threads: number;
  /** Microseconds that a thread without work spins before it sleeps. Default 0. */
  spinUs?: number | undefined;
  precision: Precision;
  kvBudgetBytes: number;
  kvDtype?: KvDtype | undefined;
  kvLayout?: KvLayout | undefined;
  blockTokens?: number | undefined;
  /** Left out: what the budget holds, see `planKvMemory`. */
  maxContext?: number | undefined;
  maxSequences?: number | undefined;
  chunkTokens: number;
  /** Groups of layers that prefill hands over one after another; default 1. */
  layerGroups?: number | undefined;
  debug?: EngineDebug;
  /** Made once the model's name is known. */
  hooks?: ((modelName: string) => EngineHooks) | undefined;
  /** Called as weights are converted, 0..1. */
  onProgress?: ((fraction: number) => void) | undefined;
  /** Connects to experts elsewhere; left out, or giving none: they are computed here, if there are any. */
  connectExperts?: ((of: ExpertsOf) => Promise<ExpertClient | undefined>) | undefined;
  signal?: AbortSignal | undefined;
}

/** What experts elsewhere are connected for. */
export interface ExpertsOf {
  runtime: Runtime;
  checkpoint: Checkpoint;
  model: string;
}

/** An engine with everything under it. Disposing ends it and frees the memory. */
export interface LoadedEngine extends AsyncDisposable {
  engine: Engine;
  info: ModelInfo;
  pool: PagePool;
  /** The chip is imitated on the CPU. */
  emulated: boolean;
  maxContext: number;
  maxSequences: number;
  /** Bytes of this process's weights, mapped or converted: without routed experts where they are elsewhere. */
  weightBytes: number;
  experts: ExpertClient | undefined;
  /** Why there are fewer sequences or tokens than by default. */
  shrunk: string | undefined;
}

/**
 * From a checkpoint to a running engine: open -> graphs -> weights and sessions, by segment, beside the hash -> pages and slots.
 * @throws ServiceError of the first step that fails, naming file, tensor or setting.
 */
export async function loadEngine(recipe: EngineRecipe): Promise<LoadedEngine> {
  await using stack = new AsyncDisposableStack();
  const family = chipFamily(recipe.chip);
  using checkpoint = await openCheckpoint(recipe.modelPath);
  const tokenizer = checkpoint.tokenizerSource === undefined ? undefined : loadTokenizer(checkpoint.tokenizerSource);
  // The file is read once for its hash and once for its weights: together it comes from the disk once.
  const hashing = checkpoint.weightsHash();
  stack.defer(async () => void (await hashing.catch(() => undefined)));
  const groups = recipe.layerGroups ?? 1;
  const { layers } = checkpoint.config;
  if (groups > layers) {
    const message = `CAUSEWAY_LAYER_GROUPS is ${groups}; ${checkpoint.name} has ${layers} layers, which is the most`;
    fail('invalid_argument', 'bad_config', message);
  }
  const cuts = layerGroups(layers, groups).map(({ firstLayer }) => firstLayer);
  const runtime = stack.use(Runtime.create({ threads: recipe.threads }));
  const name = recipe.modelName ?? checkpoint.name;
  const experts = await recipe.connectExperts?.({ runtime, checkpoint, model: name });
  if (experts !== undefined) stack.use(experts);
  const emulated = chipEmulated(family, recipe.chipEmulated === 'on', runtime.providers());
  const provider = chipProvider(family, emulated, { vulkanDir: recipe.vulkanDir });
  const choice = { dtype: recipe.kvDtype, layout: recipe.kvLayout, blockTokens: recipe.blockTokens };
  const rounding = wireFormOf(chipStorage(family, { ...choice, layers: latentLayers(checkpoint.config) }));
  const kvRounding = rounding.dtype === 'f32' ? undefined : rounding;
  const model = stack.use(
    await loadModel({
      experts: experts === undefined ? 'local' : 'remote',
      checkpoint,
      precision: recipe.precision,
      runtime,
      cuts: cuts.slice(1),
      kvRounding,
      onDevice: provider !== undefined,
      onProgress: ({ convertedBytes, totalBytes }) => recipe.onProgress?.(totalBytes === 0 ? 1 : convertedBytes / totalBytes),
      ...(recipe.signal === undefined ? {} : { signal: recipe.signal }),
    }),
  );
  const storage = chipStorage(family, { ...choice, layers: model.layers });
  const descriptor: KvDescriptor = { version: DESCRIPTOR_VERSION, layers: model.layers, storage };
  const about: EngineModelInfo = {
    name,
    architecture: model.architecture,
    vocabSize: model.vocabSize,
    contextLength: model.contextLength,
    eosTokenIds: checkpoint.config.eosTokenIds,
    descriptor,
  };
  const hooks = recipe.hooks?.(about.name);
  const constraints =
    tokenizer && stack.use(startConstraints(tokenizer, model.vocabSize, (cause) => hooks?.onConstraintThreadLost?.(cause)));
  const { made, lessened } = await fitDevice(recipe.kvBudgetBytes, async (budgetBytes) => {
    const plan = planKvMemory({
      budgetBytes,
      descriptor,
      modelContext: model.contextLength,
      maxSequences: recipe.maxSequences,
      maxContext: recipe.maxContext,
    });
    await using own = new AsyncDisposableStack();
    const pool = own.use(new PagePool({ descriptor, pageCount: plan.pageCount }));
    const engine = own.use(
      await createEngine({
        runtime,
        model,
        info: about,
        pool,
        maxSequences: plan.maxSequences,
        maxContext: plan.maxContext,
        chunkTokens: recipe.chunkTokens,
        ...(recipe.spinUs === undefined || recipe.spinUs === 0 || recipe.threads === 1
          ? {}
          : { threads: { count: recipe.threads, spinUs: recipe.spinUs } }),
        layerGroups: groups,
        provider,
        experts,
        ...(recipe.debug === undefined ? {} : { debug: recipe.debug }),
        ...(hooks === undefined ? {} : { hooks }),
        ...(constraints === undefined ? {} : { constraints }),
      }),
    );
    const memory = own.move();
    return { ...plan, pool, engine, [Symbol.asyncDispose]: () => memory.disposeAsync() };
  });
  const { engine, pool, maxContext, maxSequences } = stack.use(made);
  const shrunk = [lessened, made.shrunk].filter((why) => why !== undefined).join('; ');
  const { weightBytes } = model;
  const info: ModelInfo = {
    ...about,
    fingerprint: fingerprint({
      architecture: model.architecture,
      weightsHash: await hashing,
      tokenizerHash: tokenizer?.hash ?? '',
      rope: checkpoint.config.rope,
      layers: model.layers,
      numerics: recipe.precision,
    }),
  };
  const owned = stack.move();
  return {
    engine,
    info,
    pool,
    emulated,
    maxContext,
    maxSequences,
    shrunk: shrunk === '' ? undefined : shrunk,
    weightBytes,
    experts,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A layer of a model that keeps latents, as its configuration says, before its graphs are built. */
function latentLayers({ mla }: ModelConfig): LayerGeometry[] {
  return mla === undefined ? [] : [{ kind: 'latent', rank: mla.kvLoraRank, ropeDim: mla.qkRopeHeadDim }];
}
