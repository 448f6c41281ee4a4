import { setTimeout as sleep } from 'node:timers/promises';
import { readConfig } from '@causeway/config';
import { awaitDependency, runMain } from '@causeway/lifecycle';
import { createLogger } from '@causeway/telemetry';
import { ask, servedModel } from './ask.ts';
import { loadConfig } from './config.ts';
import { type LoadRequest, requests } from './requests.ts';

const REPORT_MS = 10_000;
const STARTUP_MS = 120_000;

await runMain(process, async (ctx) => {
  const config = readConfig(loadConfig, { argv: ctx.argv, env: ctx.env });
  const log = createLogger({ service: 'load', level: config.logLevel });
  ctx.configure({ drainMs: 0, log });
  const counts = { ok: 0, failed: 0, leftOut: 0, inFlight: 0 };
  let lastError: unknown;
  using reports = new DisposableStack();
  const report = setInterval(() => {
    log.info({ ...counts, ...(lastError === undefined ? {} : { err: lastError }) }, 'load');
    lastError = undefined;
  }, REPORT_MS);
  reports.defer(() => clearInterval(report));
  const stop = ctx.lifecycle.drainSignal;
  const model = await awaitDependency({
    what: `the router at ${config.url}`,
    deadlineMs: STARTUP_MS,
    attempt: (signal) => servedModel(config, signal),
    signal: stop,
    onRetry: (message) => log.info(message),
  });
  ctx.lifecycle.ready();
  log.info({ url: config.url, rate: config.rate, model }, 'ready');
  const one = async (request: LoadRequest): Promise<void> => {
    counts.inFlight += 1;
    try {
      await ask(config, model, request, stop);
      counts.ok += 1;
    } catch (error) {
      if (!stop.aborted) counts.failed += 1;
      lastError = error;
    } finally {
      counts.inFlight -= 1;
    }
  };
  for (const request of requests(config)) {
    if (stop.aborted) break;
    await sleep(request.afterMs, undefined, { signal: stop }).catch(() => undefined);
    if (stop.aborted) break;
    if (counts.inFlight >= config.maxInFlight) counts.leftOut += 1;
    else void one(request);
  }
  log.info(counts, 'load ended');
});
