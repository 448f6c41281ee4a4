import type { Engine, Generation } from '@causeway/engine';
import { fail, ServiceError } from '@causeway/errors';
import { KV_CODECS } from '@causeway/kv';
import type { KvEndpoint } from '@causeway/kv-transport';
import type { WorkerRole } from './worker.ts';

/** Long enough that every shape of memory is touched and the hot paths are compiled; short beside loading a model. */
const PROMPT_TOKENS = 64;
const DECODE_STEPS = 8;
/** Answers are left before they end: the engine remembers how long those got that ended. */
const SPARE_STEPS = 8;
/** Where so few tokens take so long, everything is compiled once they are read, and more would only keep requests waiting. */
const FEW_TOKENS = 8;
const ENOUGH_MS = 5_000;

/**
 * Runs the engine as its role will: prompts on a prefill worker, decode steps over blank pages on a decode worker (nothing is
 * prefilled there). Without it the first request would pay for first allocations and cold code.
 */
export async function warmUp(engine: Engine, role: WorkerRole, maxContext: number, signal: AbortSignal): Promise<void> {
  const answer = DECODE_STEPS + SPARE_STEPS;
  const tokens = Math.max(1, Math.min(PROMPT_TOKENS, maxContext - answer - 1));
  const generation: Generation = {
    promptIds: new Uint32Array(tokens),
    replayIds: new Uint32Array(0),
    maxTokens: answer,
    stopTokenIds: [],
    ignoreEos: true,
    sampling: { temperature: 0, topP: 1, topK: 0, seed: 0n },
    firstPosition: 0,
  };
  const start = performance.now();
  const enough = (): boolean => performance.now() - start > ENOUGH_MS;
  // Nothing is read on a decode worker: few tokens would take it as long as many.
  const rounds = role === 'prefill' ? [Math.min(FEW_TOKENS, tokens), tokens, tokens] : [tokens, tokens];
  for (const count of rounds) {
    if (enough()) break;
    generation.promptIds = new Uint32Array(count);
    using pages = await engine.reserve(engine.room(generation), signal);
    if (role === 'prefill') {
      await engine.prefill(generation, pages, signal);
      continue;
    }
    pages.startFilling();
    pages.commit();
    for await (const { position } of engine.decode(generation, pages, { id: 0, logprob: 0, position: 0 }, signal)) {
      if (position >= DECODE_STEPS || enough()) break;
    }
  }
}

const LOOPBACK_ROUNDS = 3;
const LOOPBACK_DEADLINE_MS = 10_000;

/**
 * Sends blank pages through NATS to this very worker, with every codec: starts codec threads, compiles the paths of both ends, and
 * shows at start, not at the first request, when KV can't travel.
 * @throws ServiceError `bad_config` when it does not arrive
 */
export async function warmUpTransport(engine: Engine, endpoint: KvEndpoint, signal: AbortSignal): Promise<void> {
  // Both ends hold pages at the same time.
  const { blockTokens } = engine.info.descriptor.storage;
  const tokens = Math.min(PROMPT_TOKENS, Math.floor(engine.stats().totalPages / 2) * blockTokens);
  if (tokens === 0) return;
  for (let round = 0; round < LOOPBACK_ROUNDS; round++) {
    for (const codec of KV_CODECS) {
      using from = await engine.reserve(tokens, signal);
      using to = await engine.reserve(tokens, signal);
      from.startFilling();
      from.commit();
      const inbound = endpoint.receive({ pages: to, tokens, deadlineMs: LOOPBACK_DEADLINE_MS, signal });
      const outbound = endpoint.send({ ticket: { ...inbound.ticket, acceptedCodecs: [codec] }, pages: from, signal });
      try {
        await Promise.all([inbound.committed, outbound.finish({})]);
      } catch (error) {
        const cause = ServiceError.from(error);
        if (cause.reason !== 'deadline') throw error;
        fail(
          'failed_precondition',
          'bad_config',
          `NATS is connected, but KV that this worker sent to itself did not arrive within ${LOOPBACK_DEADLINE_MS / 1000} s: its user must be ` +
            'allowed the subjects of docs/wire.md (docs/operations.md, "NATS users"), and the server must keep up',
          { cause: error },
        );
      }
    }
  }
}
