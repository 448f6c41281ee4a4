import { LIMITS } from '@causeway/config';
import { fail } from '@causeway/errors';
import { type KvDescriptor, type LayerGeometry, pageBytes } from '@causeway/kv';
import { cacheShape } from '@causeway/models';

const F32_BYTES = 4;

/** What a worker keeps when nothing is set and memory allows. */
const DEFAULT_MAX_CONTEXT = 4096;
const DEFAULT_MAX_SEQUENCES = 8;
/** How far these shrink: first the sequences to two, then the context to 512 tokens, last to a single sequence. */
const FEWEST_SEQUENCES = 2;
const SHORTEST_CONTEXT = 512;

/** Bytes that one token takes in a slot: f32, K and V, or the latent once. */
export function slotTokenBytes(layers: readonly LayerGeometry[]): number {
  return layers.reduce((sum, layer) => {
    const { heads, width } = cacheShape(layer);
    return sum + heads * width * F32_BYTES * (layer.kind === 'latent' ? 1 : 2);
  }, 0);
}

export interface KvBudget {
  budgetBytes: number;
  descriptor: KvDescriptor;
  /** Longest context that the model has. */
  modelContext: number;
  /** As set; left out, they are chosen by what the budget holds. */
  maxSequences?: number | undefined;
  maxContext?: number | undefined;
}

export interface KvMemory {
  maxSequences: number;
  maxContext: number;
  pageCount: number;
  slotBytes: number;
  /** Why there are fewer sequences or tokens than the defaults. */
  shrunk?: string;
}

/**
 * Splits a KV budget into slots (`maxSequences` for decoding and one for prefill, `maxContext` tokens each) and pages, which hold at
 * least one full context. What is set is kept; what is not shrinks until it fits.
 * @throws ServiceError `bad_config` when it does not fit, with the budget that would do and what would fit.
 */
export function planKvMemory(budget: KvBudget): KvMemory {
  const wanted = {
    maxSequences: budget.maxSequences ?? DEFAULT_MAX_SEQUENCES,
    maxContext: Math.min(budget.maxContext ?? DEFAULT_MAX_CONTEXT, budget.modelContext),
  };
  const shortest = budget.maxContext === undefined ? Math.min(SHORTEST_CONTEXT, wanted.maxContext) : wanted.maxContext;
  const fewest = budget.maxSequences ?? FEWEST_SEQUENCES;
  const choices: [sequences: number, atLeast: number][] = [];
  for (let sequences = wanted.maxSequences; sequences > fewest; sequences--) choices.push([sequences, wanted.maxContext]);
  choices.push([fewest, shortest]);
  if (budget.maxSequences === undefined) choices.push([1, shortest]);
  for (const [maxSequences, atLeast] of choices) {
    const maxContext = contextThatFits(budget, maxSequences, wanted.maxContext);
    if (maxContext < atLeast) continue;
    const chosen = { maxSequences, maxContext, ...split(budget, maxSequences, maxContext) };
    if (maxSequences === wanted.maxSequences && maxContext === wanted.maxContext) return chosen;
    return { ...chosen, shrunk: explain(budget, wanted, chosen) };
  }
  return refuse(budget, budget.maxSequences ?? 1, shortest);
}

function split({ budgetBytes, descriptor }: KvBudget, maxSequences: number, maxContext: number) {
  const slotBytes = (maxSequences + 1) * maxContext * slotTokenBytes(descriptor.layers);
  return { slotBytes, pageCount: Math.max(0, Math.floor((budgetBytes - slotBytes) / pageBytes(descriptor))) };
}

/** The least budget for a choice: its slots and one full context of pages. */
function neededBytes(budget: KvBudget, maxSequences: number, maxContext: number): number {
  const { descriptor } = budget;
  const pages = Math.ceil(maxContext / descriptor.storage.blockTokens);
  return split(budget, maxSequences, maxContext).slotBytes + pages * pageBytes(descriptor);
}

/** The longest context, at most `limit`, that so many sequences leave room for; whole pages unless it is the limit. */
function contextThatFits(budget: KvBudget, maxSequences: number, limit: number): number {
  if (neededBytes(budget, maxSequences, limit) <= budget.budgetBytes) return limit;
  const { blockTokens } = budget.descriptor.storage;
  return blockTokens * Math.floor(budget.budgetBytes / neededBytes(budget, maxSequences, blockTokens));
}

function explain(
  budget: KvBudget,
  wanted: Pick<KvMemory, 'maxSequences' | 'maxContext'>,
  chosen: Pick<KvMemory, 'maxSequences' | 'maxContext'>,
): string {
  const needed = neededBytes(budget, wanted.maxSequences, wanted.maxContext);
  return (
    `a KV budget of ${budget.budgetBytes} bytes has room for ${chosen.maxSequences} x ${chosen.maxContext} tokens; ` +
    `${wanted.maxSequences} x ${wanted.maxContext} would take CAUSEWAY_KV_BUDGET_BYTES=${needed}`
  );
}

function refuse(budget: KvBudget, maxSequences: number, maxContext: number): never {
  const { budgetBytes } = budget;
  const { slotBytes } = split(budget, maxSequences, maxContext);
  const needed = neededBytes(budget, maxSequences, maxContext);
  const fitting = contextThatFits(budget, maxSequences, maxContext);
  let sequences = maxSequences - 1;
  while (sequences > 0 && neededBytes(budget, sequences, maxContext) > budgetBytes) sequences--;
  const instead = [
    ...(fitting >= LIMITS.maxContext.min ? [`CAUSEWAY_MAX_CONTEXT to ${fitting}`] : []),
    ...(sequences > 0 ? [`CAUSEWAY_MAX_SEQUENCES to ${sequences}`] : []),
  ];
  fail(
    'invalid_argument',
    'bad_config',
    `a KV budget of ${budgetBytes} bytes is too small: ${maxSequences + 1} slots of ${maxContext} tokens take ${slotBytes} bytes and ` +
      `one context of pages ${needed - slotBytes}; raise CAUSEWAY_KV_BUDGET_BYTES to ${needed}` +
      (instead.length === 0 ? '' : `, or lower ${instead.join(', or ')}`),
  );
}
