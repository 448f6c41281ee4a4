/** The section of docs/benchmarks.md about what the router adds. */
import { showSpread, type Spread } from './bench-report.ts';
import { read, source } from './report-source.ts';

type RouterRow = Record<'p50' | 'p99' | 'firstP50' | 'routerCpuUs' | 'othersCores', Spread>;

/** What the router adds to a token's way. */
export function routerSection(name: string): string {
  const report = read<{ direct: RouterRow; router: RouterRow; added: RouterRow }>(name);
  const { direct, router, added } = report.summary;
  const { streams, workers, paceMs } = report.setting as { streams: number; workers: number; paceMs: number };
  const row = (what: string, of: RouterRow): string =>
    `| ${what} | ${showSpread(of.p50, 1)} | ${showSpread(of.p99, 1)} | ${showSpread(of.firstP50, 0)} |`;
  return `## What the router adds

${streams} streams of ${workers} scripted decode workers, each of which gives all its streams a token every ${paceMs} ms, one after the other; from a token's leaving
the worker to the client's having it, by the workers' own gRPC and through the router. The aims are 2 ms more at the median and 10 at p99.
Other work kept ${showSpread(router.othersCores, 1)} of the machine's cores busy meanwhile: where it is most of them, a token waits for the router's turn on a core, and
the figures are that wait. The router's CPU time depends on it less: ${showSpread(router.routerCpuUs, 0)} µs for each token of its streams, request and all. Tokens
of one step wait for one another, and those of the first steps for requests that begin.

A profile (\`node --cpu-prof\`) has the largest part of it in \`writev\`, one call for each token and client, which only more tokens per write could
lessen; then garbage collection; the rest is spread over grpc-js, Node's streams and promises. Tried and taken:

- *Workers' messages go from the connection to the attempt's queue* without an asynchronous generator on the way (there were five).
- *One timer for an attempt's silence*, not an abort signal and a timer for each token.
- *Chunks whose equal part is written once* for a stream; a token's text alone is made into JSON.
- *The text of a single token is decoded once*; streams ask for it again with each token.
- *Requests in line share a snapshot of the workers*; each had one of its own at every change, which made many requests at once wait.

| ms | p50 | p99 | first token, p50 |
| --- | ---: | ---: | ---: |
${row('direct', direct)}
${row('through the router', router)}
${row('added, pair by pair', added)}

${source(name, report)}
`;
}
