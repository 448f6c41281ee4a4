/** `causeway bench` and its options. */
import type { Command } from 'commander';
import type { BenchLoadFlags } from './commands/bench-load.ts';
import { type Benchmark, BENCHMARKS, bench } from './commands/bench.ts';
import { decimal, integer, oneOf } from './option-values.ts';
import type { Output } from './terminal/output.ts';
import type { SignalSource } from './terminal/stop-signals.ts';

const MOST_TOKENS = 10_000_000;

export function addBench(root: Command, deps: { out: Output; signals: SignalSource; apiKey: string | undefined }): void {
  const group = root
    .command('bench')
    .description('measure: an endpoint under load, or one of the benchmarks behind docs/benchmarks.md');
  group
    .command('load')
    .description('put load on any OpenAI-compatible endpoint: TTFT, ITL, TPOT, E2E, goodput; Ctrl-C reports what is there')
    .requiredOption('--url <url>', 'where it is, with or without /v1; a key comes from CAUSEWAY_API_KEY')
    .option('--model <name>', 'default the first that is served')
    .option('--endpoint <kind>', 'chat or completions', oneOf('chat', 'completions'), 'chat')
    .option('--rate <n>', 'requests a second, Poisson arrivals, open loop', decimal(1e-3, 1e5))
    .option('--trace <file>', "arrivals and lengths of a trace in Mooncake's form, open loop")
    .option('--concurrency <n>', 'so many under way at once (1 unless --rate or --trace)', integer(1, 100_000))
    .option('--requests <n>', 'how many; default 100, or the whole trace', integer(1, 10_000_000))
    .option('--prompt-tokens <n>', 'about so many tokens of prompt', integer(1, MOST_TOKENS), 512)
    .option('--output-tokens <n>', 'max_tokens; of a trace, longer answers are cut to it', integer(1, MOST_TOKENS), 128)
    .option('--max-prompt-tokens <n>', 'of a trace, longer prompts are cut to it', integer(1, MOST_TOKENS), 3072)
    .option('--speed <x>', 'play a trace so many times as fast', decimal(1e-3, 1e6), 1)
    .option('--ignore-eos', 'ask for answers of full length (vLLM, Causeway)', false)
    .option('--goodput <limits>', 'count requests within limits in ms: ttft:500,tpot:50,e2e:10000')
    .option('--seed <n>', 'of arrivals and prompts', integer(0, 2 ** 31 - 1), 0)
    .option('--timeout <seconds>', 'of one request', decimal(0.001, 86_400), 600)
    .option('--json <file>', 'write the report with every request; - prints it instead of the table')
    .action(async (flags: BenchLoadFlags) => {
      const { benchLoad } = await import('./commands/bench-load.ts');
      process.exitCode = await benchLoad(flags, deps);
    });
  for (const [name, description] of Object.entries(BENCHMARKS) as [Benchmark, string][]) {
    group
      .command(name)
      .description(description)
      .helpOption(false)
      .allowUnknownOption()
      .argument('[args...]', `options of tests/bench/${name}.ts`)
      .action(async (args: string[]) => {
        process.exitCode = await bench(name, args, deps);
      });
  }
}
