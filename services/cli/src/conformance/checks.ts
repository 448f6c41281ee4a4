/** What every chip family must do, whatever it is. Each check gives a line for a person, or throws what is wrong. */
import { CHIP_NAMES, chipFamily, chipStorage } from '@causeway/chips';
import type { Engine, GeneratedToken, Generation, SequencePages } from '@causeway/engine';
import { type KvDescriptor, type KvDtype, storageName } from '@causeway/kv';
import type { LoadedEngine } from '@causeway/worker-runtime';
import { compareGreedy, largestError, logSoftmaxAt } from '../verify/compare.ts';
import { greedyGeneration } from '../verify/engine-backend.ts';
import type { Golden } from '../verify/golden.ts';
import { TOLERANCE } from '../verify/run-verify.ts';
import { carryPages, largestDistance } from './carry-pages.ts';

/** What a check works with. */
export interface Subject {
  loaded: LoadedEngine;
  golden: Golden;
  /** Errors of the engine's own since it began. */
  errors: unknown[];
}

export interface Check {
  name: string;
  run: (subject: Subject) => Promise<string>;
}

/** Tokens of prompts: they end within a block, and span several chunks and blocks of any family. */
const PROMPT = 333;
/** Whole blocks of every family. */
const BLOCKS_TOKENS = 256;
const ANSWER = 24;
const PAGES_BACK_MS = 10_000;

/**
 * Greedy tokens must be the reference's where its margin, in nats, is larger: what rounding K and V to the type may turn. The reference
 * has K and V in f32, as `verify` has, whose margin that of f32 is.
 */
const FIRM_MARGIN: Readonly<Record<KvDtype, number>> = {
  f32: TOLERANCE.messagesMargin.exact,
  f16: 0.05,
  bf16: 0.3,
  f8e4m3: 2,
  int8: 0.5,
  int4: 4,
};

/** How far rounding moves a number at most, by the largest number beside it: half a step of the type. */
const ROUNDING: Readonly<Record<KvDtype, number>> = {
  f32: 0,
  f16: 2 ** -11,
  bf16: 2 ** -8,
  f8e4m3: 2 ** -4,
  // factors are rounded too
  int8: (0.5 / 127) * 1.01 + 2 ** -8,
  int4: (0.5 / 7) * 1.01 + 2 ** -8,
};

/** The checks, in the order in which they make sense. */
export const CHECKS: readonly Check[] = [
  { name: 'goldens', run: goldens },
  { name: 'KV in place', run: inPlace },
  { name: 'gather and scatter', run: gatherScatter },
  { name: 'conversions', run: conversions },
  { name: 'cancel', run: cancel },
];

/** Something that a family does wrong, in a sentence. */
export class ConformanceFailure extends Error {}

function must(condition: boolean, what: string): asserts condition {
  if (!condition) throw new ConformanceFailure(what);
}

async function goldens({ loaded, golden, errors }: Subject): Promise<string> {
  const margin = FIRM_MARGIN[loaded.info.descriptor.storage.dtype];
  let [agreed, required, total, distance] = [0, 0, 0, 0];
  const logits = golden.form === 'logits';
  const what = logits ? 'logits after the prompts' : 'log-probabilities';
  for (const [i, item] of golden.cases.entries()) {
    const [prompt, greedy, margins, top] =
      'prompt_ids' in item
        ? [item.prompt_ids, item.greedy_ids, item.margins, item.top5]
        : [item.prompt, item.greedy, item.greedy_margin, []];
    const tokens = await generate(loaded.engine, greedyGeneration(prompt, greedy.length, !('prompt_ids' in item)));
    const found = compareGreedy(
      tokens.map(({ id }) => id),
      greedy,
      margins,
      margin,
    );
    must(found.ok, `case ${i + 1}: ${found.agreed} of ${found.required} firm tokens are the reference's (margin ${margin})`);
    agreed += found.agreed;
    required += found.required;
    total += found.total;
    if (!('prompt_ids' in item)) {
      distance = Math.max(distance, largestError(tokens[0]?.logits ?? [], item.last_logits));
    }
    for (const [at, best] of top.slice(0, Math.min(found.agreed + 1, tokens.length)).entries()) {
      const computed = logSoftmaxAt(
        tokens[at]?.logits as Float32Array,
        best.map(([id]) => id),
      );
      distance = Math.max(distance, ...computed.map((value, j) => Math.abs(value - (best[j] as [number, number])[1])));
    }
  }
  noErrors(errors);
  if (loaded.info.descriptor.storage.dtype === 'f32') {
    const largest = logits ? TOLERANCE.logits : TOLERANCE.logprobs.exact;
    must(distance <= largest, `${what} are ${distance} from the reference's`);
  }
  return `${agreed} of ${total} tokens, all ${required} firm ones; ${what} within ${distance.toExponential(1)}`;
}

/** With the engine's debug checks every whole block of a slot is compared with its page, bit for bit, after each chunk and step. */
async function inPlace({ loaded: { engine }, errors }: Subject): Promise<string> {
  const tokens = await generate(engine, generationOf(engine, PROMPT, 1));
  noErrors(errors);
  must(tokens.length === ANSWER, `${tokens.length} tokens instead of ${ANSWER}`);
  for (const { logits } of tokens)
    must(logits?.every(Number.isFinite) === true, 'logits are not finite: memory that nobody wrote is read');
  return `${PROMPT} tokens in chunks, ${ANSWER} steps: slots equal their pages, bit for bit`;
}

async function gatherScatter({ loaded: { engine, pool }, errors }: Subject): Promise<string> {
  const g = generationOf(engine, PROMPT, 2);
  const whole = await generate(engine, g);
  const { signal } = new AbortController();
  // free pages in an order that no sequence had
  const singles = Array.from({ length: Math.min(24, pool.freePages) }, () => pool.reserve(1));
  for (const parity of [0, 1]) singles.forEach((page, i) => void (i % 2 === parity && page?.[Symbol.dispose]()));
  using source = await engine.reserve(PROMPT, signal);
  const { first } = await engine.prefill(g, source, signal);
  const target = await engine.reserve(engine.room(g), signal);
  target.startFilling();
  for (const [i, page] of source.pages.entries()) engine.page(target.pages[i] as number).set(engine.page(page));
  target.commit();
  const there = await decode(engine, g, target, first);
  noErrors(errors);
  must(same(there, whole), 'an answer from copied pages is not that from the pages themselves');
  const scattered = target.pages.some((page, i) => i > 0 && page !== (target.pages[i - 1] as number) + 1);
  must(scattered || target.pages.length === 1, 'the pages were not scattered');
  return `${source.pages.length} pages copied to others that are apart: the same answer, bit for bit`;
}

async function conversions({ loaded, errors }: Subject): Promise<string> {
  const { engine } = loaded;
  const own = loaded.info.descriptor;
  const { signal } = new AbortController();
  using pages = await engine.reserve(PROMPT, signal);
  await engine.prefill(generationOf(engine, PROMPT, 3), pages, signal);
  const source = pages.pages.slice(0, BLOCKS_TOKENS / own.storage.blockTokens).map((page) => Uint8Array.from(engine.page(page)));
  const [exact, rounded]: [string[], string[]] = [[], []];
  for (const name of CHIP_NAMES) {
    const storage = chipStorage(chipFamily(name), { layers: own.layers });
    const other: KvDescriptor = { ...own, storage };
    const there = carryPages(source, own, other, BLOCKS_TOKENS);
    const back = carryPages(there.pages, other, own, BLOCKS_TOKENS);
    const what = `pages as ${storageName(storage)} of ${name} and back`;
    if (there.lossless) must(equal(back.pages, source), `${what} are not what they were`);
    else {
      const distance = largestDistance(source, back.pages, own);
      const allowed = ROUNDING[storage.dtype] + ROUNDING[own.storage.dtype];
      must(distance <= allowed, `${what} are ${distance} from what they were, by their largest number; ${allowed} is rounding`);
    }
    (there.lossless ? exact : rounded).push(`${name} (${storageName(storage)})`);
  }
  noErrors(errors);
  const list = (names: string[]) => (names.length === 0 ? 'none' : names.join(', '));
  return `exact to and from ${list(exact)}; rounded for ${list(rounded)}`;
}

async function cancel({ loaded: { engine, pool }, errors }: Subject): Promise<string> {
  const g = generationOf(engine, PROMPT, 4);
  const before = await generate(engine, g);
  for (const phase of ['prefill', 'decode'] as const) {
    const controller = new AbortController();
    const { signal } = controller;
    const pages = await engine.reserve(engine.room(g), signal);
    let ended: unknown;
    try {
      const { first } = await engine.prefill(g, pages, signal, () => {
        if (phase === 'prefill') controller.abort(new Error('cancelled by the check'));
      });
      let steps = 0;
      for await (const _ of engine.decode(g, pages, first, signal)) {
        if (++steps === 3) controller.abort(new Error('cancelled by the check'));
      }
    } catch (error) {
      ended = error;
    } finally {
      pages[Symbol.dispose]();
    }
    must(ended !== undefined, `a cancelled ${phase} went on to its end`);
    const end = performance.now() + PAGES_BACK_MS;
    while (pool.freePages < pool.totalPages && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
    must(
      pool.freePages === pool.totalPages,
      `${pool.totalPages - pool.freePages} pages of a cancelled ${phase} did not come back`,
    );
  }
  must(same(await generate(engine, g), before), 'after a cancellation an answer is another');
  noErrors(errors);
  return 'in prefill and in decode: pages come back, the next answer is the same, bit for bit';
}

function generationOf(engine: Engine, length: number, seed: number): Generation {
  const { vocabSize } = engine.info;
  let state = seed;
  const ids = Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state >>> 8) % vocabSize;
  });
  return greedyGeneration(ids, ANSWER, true);
}

async function generate(engine: Engine, g: Generation): Promise<GeneratedToken[]> {
  const { signal } = new AbortController();
  const pages = await engine.reserve(engine.room(g), signal);
  const { first } = await engine.prefill(g, pages, signal);
  return decode(engine, g, pages, first);
}

async function decode(
  engine: Engine,
  g: Generation,
  pages: SequencePages,
  first: GeneratedToken | undefined,
): Promise<GeneratedToken[]> {
  const tokens = first === undefined ? [] : [first];
  if (first?.finishReason !== undefined) {
    pages[Symbol.dispose]();
    return tokens;
  }
  for await (const token of engine.decode(g, pages, first, new AbortController().signal)) tokens.push(token);
  return tokens;
}

function noErrors(errors: readonly unknown[]): void {
  must(errors.length === 0, errors[0] instanceof Error ? errors[0].message : String(errors[0]));
}

/** The same tokens with the same bits of every logit. */
function same(a: readonly GeneratedToken[], b: readonly GeneratedToken[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ id, logits }, i) => {
      const other = b[i];
      if (logits === undefined || other?.logits === undefined || id !== other.id) return false;
      return Buffer.compare(bytesOf(logits), bytesOf(other.logits)) === 0;
    })
  );
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function equal(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((page, i) => Buffer.compare(page, b[i] as Uint8Array) === 0);
}
