import { writeFileSync } from 'node:fs';
import { fail } from '@causeway/errors';
import { endpointUrl, findModelAt } from '../load/endpoint.ts';
import { type PlannedRequest, traceLoad, uniformLoad } from '../load/load-plan.ts';
import { type Slo, summarize } from '../load/load-summary.ts';
import { loadTable } from '../load/load-table.ts';
import { runLoad } from '../load/run-load.ts';
import type { Target } from '../load/timed-request.ts';
import type { Output } from '../terminal/output.ts';
import { type SignalSource, StopSignals } from '../terminal/stop-signals.ts';

export interface BenchLoadFlags {
  url: string;
  model?: string;
  endpoint: 'chat' | 'completions';
  /** Poisson arrivals per second. */
  rate?: number;
  /** Arrivals and lengths of a file. */
  trace?: string;
  /** Requests under way at once. */
  concurrency?: number;
  requests?: number;
  promptTokens: number;
  outputTokens: number;
  maxPromptTokens: number;
  speed: number;
  ignoreEos: boolean;
  goodput?: string;
  seed: number;
  timeout: number;
  json?: string;
}

const DEFAULT_REQUESTS = 100;

/** Reads `ttft:500,tpot:50,e2e:10000`, milliseconds. @throws ServiceError `bad_config` */
export function parseSlo(text: string): Slo {
  const slo: Slo = {};
  for (const part of text.split(/[\s,]+/).filter((word) => word !== '')) {
    const [name = '', limit = ''] = part.split(':');
    const ms = limit === '' ? Number.NaN : Number(limit);
    if ((name !== 'ttft' && name !== 'tpot' && name !== 'e2e') || !(ms > 0)) {
      fail('invalid_argument', 'bad_config', `--goodput is limits in ms such as ttft:500,tpot:50,e2e:10000; "${part}" is none`);
    }
    slo[name] = ms;
  }
  if (Object.keys(slo).length === 0) fail('invalid_argument', 'bad_config', '--goodput needs a limit, such as ttft:500,tpot:50');
  return slo;
}

function planOf(flags: BenchLoadFlags): PlannedRequest[] {
  const ways = [flags.rate, flags.trace, flags.concurrency].filter((way) => way !== undefined);
  if (ways.length > 1) fail('invalid_argument', 'bad_config', '--rate, --trace and --concurrency exclude each other: give one');
  if (flags.trace !== undefined) {
    return traceLoad(flags.trace, {
      requests: flags.requests,
      speed: flags.speed,
      maxPromptTokens: flags.maxPromptTokens,
      maxOutputTokens: flags.outputTokens,
    });
  }
  const { promptTokens, outputTokens, seed, requests = DEFAULT_REQUESTS } = flags;
  return uniformLoad({ requests, promptTokens, outputTokens, seed }, flags.rate);
}

function describe(flags: BenchLoadFlags, plan: readonly PlannedRequest[]): string {
  const size = `${plan.length} requests of about ${flags.promptTokens} + ${flags.outputTokens} tokens`;
  if (flags.trace !== undefined) return `${plan.length} requests of ${flags.trace}, ${flags.speed} times as fast as recorded`;
  if (flags.rate !== undefined) return `${size}, ${flags.rate} a second (Poisson)`;
  return `${size}, ${flags.concurrency ?? 1} at once`;
}

/**
 * Puts load on an OpenAI-compatible endpoint and reports what its clients saw; when stopped, of what there is. Exit code 0; 1 when no
 * request was completed; 130 when stopped by a signal.
 * @throws ServiceError for bad flags, a bad trace, or an endpoint that does not answer
 */
export async function benchLoad(
  flags: BenchLoadFlags,
  deps: { out: Output; signals: SignalSource; apiKey: string | undefined },
): Promise<number> {
  const { out } = deps;
  const slo = flags.goodput === undefined ? undefined : parseSlo(flags.goodput);
  const baseUrl = endpointUrl(flags.url);
  const plan = planOf(flags);
  using stop = new StopSignals(deps.signals, (count) => {
    if (count === 1) out.warn('stopping: what is there is reported');
  });
  const model = await findModelAt({ baseUrl, apiKey: deps.apiKey, model: flags.model }, stop.signal);
  const { endpoint, ignoreEos } = flags;
  const target: Target = { baseUrl, apiKey: deps.apiKey, model, endpoint, ignoreEos, timeoutMs: flags.timeout * 1000 };
  const quiet = flags.json === '-';
  if (!quiet) out.line(`${model} at ${baseUrl} · ${describe(flags, plan)}`);
  const started = new Date().toISOString();
  let shown = 0;
  const records = await runLoad({
    target,
    plan,
    concurrency: flags.concurrency ?? 1,
    stop: stop.signal,
    onProgress: ({ sent, ended, total }) => {
      const tenth = Math.floor((10 * ended) / total);
      if (quiet || tenth === shown) return;
      shown = tenth;
      out.line(out.dim(`${ended} of ${total} ended, ${sent - ended} under way`));
    },
  });
  const summary = summarize(records, slo);
  const interrupted = stop.count > 0;
  if (flags.json !== undefined) {
    const { json: _json, ...setting } = flags;
    const report = { tool: 'causeway bench load', version: 1, started, interrupted, model, setting, summary, records };
    if (quiet) out.line(JSON.stringify(report));
    else writeFileSync(flags.json, `${JSON.stringify(report, undefined, 2)}\n`);
  }
  if (!quiet) for (const line of ['', ...loadTable(summary)]) out.line(line);
  if (interrupted) return 130;
  return summary.requests.completed > 0 ? 0 : 1;
}
