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
Other work kept ${showSpread(router.othersCores, 1)} of the machine's cores busy meanwhile: a token waits for the router's turn on a core, and these figures are that
wait, far above the aims, although the bench ran with raised priority (\`nice -n -10\`). The router's CPU time depends on it less: ${showSpread(router.routerCpuUs, 0)} µs for each token of its streams, request and all, on cores
whose caches others used too. Tokens of one step wait for one another: at that cost eight of them take some 2 ms. A profile (\`node --cpu-prof\`)
has a quarter of it in \`writev\`, one call for each token and client, a tenth in garbage collection, a twentieth in turning tokens to text, and the
rest spread over grpc-js, Node's streams and promises; nothing was changed for it yet.

| ms | p50 | p99 | first token, p50 |
| --- | ---: | ---: | ---: |
${row('direct', direct)}
${row('through the router', router)}
${row('added, pair by pair', added)}

${source(name, report)}
`;
}
