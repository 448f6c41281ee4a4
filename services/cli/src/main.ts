import { availableParallelism } from 'node:os';
import { Command, CommanderError } from 'commander';
import { ServiceError } from '@causeway/errors';
import { addBench } from './bench-program.ts';
import type { ProfileOptions } from './commands/profile.ts';
import type { ConformanceFlags } from './commands/conformance.ts';
import type { VerifyFlags } from './commands/verify.ts';
import { readCliConfig, routerKey } from './config.ts';
import { decimal, integer, integers, oneOf } from './option-values.ts';
import { runPaths } from './paths.ts';
import { createOutput } from './terminal/output.ts';

const out = createOutput(process);

/** An IPv6 address may come in brackets, as URLs have it. */
function hostAddress(text: string): string {
  return text.replace(/^\[(.*)\]$/, '$1');
}

/** Runs a command's function and keeps its exit code. Commands are imported when they run: `status` need not load an engine. */
async function run<M>(module: Promise<M>, call: (module: M) => Promise<number>): Promise<void> {
  process.exitCode = await call(await module);
}

function program(): Command {
  const config = readCliConfig(process.env);
  const paths = runPaths(config.runFolder);
  const deps = { paths, out, env: process.env, signals: process };
  const root = new Command('causeway')
    .description(
      'Serves language models: prompts are prefilled in one process and decoded in another, the KV cache travels over NATS.',
    )
    .exitOverride()
    .showHelpAfterError('(--help shows what there is)');

  root
    .command('up')
    .description('start NATS, Redis, router and workers, send a first prompt, and keep them running until Ctrl-C')
    .option('-d, --detach', 'return once everything is ready, and leave it running')
    .option('--http-port <port>', 'HTTP port of the router (8000, or the next free one)', integer(1, 65_535))
    .option('--grpc-port <port>', 'gRPC port of the router (50051, or the next free one)', integer(1, 65_535))
    .option('--host <address>', 'address that HTTP and gRPC listen on', hostAddress, '127.0.0.1')
    .option(
      '--model <name-or-path>',
      "a name of `models list`, hf:OWNER/REPO[/FILE], a checkpoint's directory or a .gguf file; repeated: each gets workers of its own",
      (word: string, words: readonly string[]) => [...words, word],
      [],
    )
    .option('--topology <file>', 'which pools run (YAML; deploy/topology.example.yaml explains it)')
    .option('--wait <seconds>', 'how long everything may take to become ready', integer(1, 86_400), 180)
    .option('--no-prompt', 'do not send the first prompt')
    .action((options: UpFlags) => {
      const { httpPort, grpcPort, host, model: models, topology, wait, prompt } = options;
      if (options.detach !== true) {
        return run(import('./commands/up.ts'), ({ up }) =>
          up({ httpPort, grpcPort, host, models, topology, wait, prompt }, deps),
        );
      }
      const [, script = '', ...rest] = process.argv;
      return run(import('./commands/detach.ts'), ({ upDetached }) =>
        upDetached([script, ...rest.filter((word) => word !== '--detach' && word !== '-d')], deps),
      );
    });

  root
    .command('down')
    .description('drain and stop what `up` started in this checkout')
    .option('--now', 'kill instead of draining', false)
    .action((options: { now: boolean }) => run(import('./commands/down.ts'), ({ down }) => down(options, deps)));

  root
    .command('status')
    .description('processes, ports and registered workers; exit code 0 all ready, 1 something is not, 3 nothing is up')
    .option('--json', 'as JSON', false)
    .action((options: { json: boolean }) => run(import('./commands/status.ts'), ({ status }) => status(options, deps)));

  root
    .command('logs')
    .argument('[service]', 'router, prefill, decode, nats, redis, up, ...; default all')
    .description('show logs')
    .option('-f, --follow', 'go on showing what is added', false)
    .option('-n, --lines <count>', 'how many lines to begin with', integer(0, 100_000), 50)
    .action((service: string | undefined, options: { follow: boolean; lines: number }) =>
      run(import('./commands/logs.ts'), ({ logs }) => logs({ service, ...options }, deps)),
    );

  const experts = root
    .command('experts')
    .description('which shard has which experts, and how much each is used, as a heat map')
    .option('--model <name>', 'of several models; default the first')
    .option('--json', 'as JSON', false)
    .action(({ model, json }: { model?: string; json: boolean }) =>
      run(import('./commands/experts.ts'), (module) => module.experts({ model, json }, deps)),
    );
  experts
    .command('rebalance')
    .description('place experts anew by their load, without stopping anything; says first what it will gain')
    .option('--copies <count>', 'shards that have each expert at least; default as configured', integer(1, 64))
    .option(
      '--hot-copies <count>',
      'further copies in each layer, of its hottest experts; default as configured',
      integer(0, 4096),
    )
    .option('--dry-run', 'only say what would be gained', false)
    .option('--wait <seconds>', 'how long shards may take to load', integer(1, 86_400), 120)
    .action((options: { copies?: number; hotCopies?: number; dryRun: boolean; wait: number }, command: Command) => {
      const { copies, hotCopies, dryRun, wait } = options;
      const { model } = command.optsWithGlobals<{ model?: string }>();
      return run(import('./commands/rebalance.ts'), ({ rebalance }) =>
        rebalance({ model, copies, hotCopies, dryRun, wait }, deps),
      );
    });

  root
    .command('chat')
    .description('talk to the model in the terminal')
    .option('--url <url>', 'router to talk to; default the cluster of this checkout')
    .option('--model <name>', 'model to name in the request; default the first that the router serves')
    .option('--system <text>', 'a system message to begin with')
    .option('--max-tokens <count>', 'longest answer', integer(1, 1_000_000))
    .option('--temperature <t>', '0 is greedy', decimal(0, 2))
    .action((options: ChatFlags) => {
      const { url, model, system, maxTokens, temperature } = options;
      // The keys of this checkout's router are nobody else's business.
      const apiKey = url === undefined ? routerKey(config) : config.apiKey;
      return run(import('./commands/chat.ts'), ({ chat }) =>
        chat(
          { url, model, system, maxTokens, temperature, apiKey },
          { paths, out, input: process.stdin, output: process.stdout },
        ),
      );
    });

  root
    .command('test')
    .description('run all tests; ends with `N passed, N failed, N skipped`')
    .option('--full', 'also what takes long', false)
    .argument('[args...]', "vitest's own arguments, after --")
    .allowUnknownOption()
    .action((args: string[], options: { full: boolean }) =>
      run(import('./commands/test.ts'), ({ test }) => test({ full: options.full, args }, deps)),
    );

  root
    .command('verify')
    .argument('<dir>', 'a checkpoint with golden.json beside it, or the name of a folder in models/')
    .description('compare a checkpoint with the reference outputs beside it; exit code 1 when out of tolerance')
    .option('--cluster', 'through prefill -> NATS -> decode processes instead of the engine alone', false)
    .option('--json', 'the whole report as JSON', false)
    .option(
      '--precision <precision>',
      'exact keeps f32 activations; fast rounds them to int8 for quantised weights',
      oneOf('exact', 'fast'),
      'exact',
    )
    .option('--threads <count>', 'threads of each process', integer(1, 1024), availableParallelism())
    .action((dir: string, options: Omit<VerifyFlags, 'dir'>) =>
      run(import('./commands/verify.ts'), ({ verify }) => verify({ dir, ...options }, deps)),
    );

  root
    .command('conformance')
    .argument('<chip>', 'a chip family: cpu, nvidia, ascend, cambricon, ...')
    .description('check a chip family on this machine, on each of its KV storages; exit code 1 when something does not hold')
    .option('--emulated', 'imitate the family on the CPU', false)
    .option('--model <dir>', 'a checkpoint with golden.json beside it, or the name of a folder in models/', 'tiny-moe')
    .option('--storages <which>', "the family's default alone, or all", oneOf('default', 'all'), 'all')
    .option('--threads <count>', 'threads that compute', integer(1, 1024), availableParallelism())
    .option('--json', 'every result as JSON', false)
    .action((chip: string, options: Omit<ConformanceFlags, 'chip'>) =>
      run(import('./commands/conformance.ts'), ({ conformance }) => conformance({ chip, ...options }, deps)),
    );

  const models = root.command('models').description('models that can be served: list, pull, remove');
  models
    .command('list', { isDefault: true })
    .description("what is built in, pulled, or in Ollama's and Hugging Face's caches here, and what can be pulled by name")
    .option('--json', 'as JSON', false)
    .action((options: { json: boolean }) =>
      run(import('./commands/models.ts'), ({ listModels }) => listModels(options, { config, out })),
    );
  models
    .command('pull')
    .argument('<name>', 'a name of the catalogue, or hf:OWNER/REPO[@REVISION][/FILE]')
    .description('download a model; what was interrupted goes on, and everything is verified')
    .action((name: string) => run(import('./commands/models.ts'), ({ pull }) => pull({ name }, { config, ...deps })));
  models
    .command('rm')
    .argument('<name>', 'as in the list')
    .description('delete a model that was pulled')
    .action((name: string) => run(import('./commands/models.ts'), ({ remove }) => remove({ name }, { config, ...deps })));

  root
    .command('kv')
    .description('look at KV caches')
    .command('dump')
    .argument('<request-id>', "of an answer that is being written (the answer's header x-causeway-request-id)")
    .description("write a prompt's KV as a worker stores it to a file (its pool needs kvInspect: true)")
    .requiredOption('--worker <id-or-address>', "the decode worker's id, or host:port of its gRPC")
    .requiredOption('--out <file>', 'file for the pages; how they are stored goes to the file with .json after its name')
    .action((requestId: string, options: { worker: string; out: string }) =>
      run(import('./commands/kv-dump.ts'), ({ kvDump }) => kvDump({ requestId, ...options }, deps)),
    );

  root
    .command('profile')
    .argument('[workers...]', 'ids of workers or names of pools; default all of this checkout')
    .description('measure workers that run: prefill, decode steps, KV, links and codecs; registers it for `status`')
    .option('--prompts <tokens>', 'lengths of prompts', integers(1, 1_000_000), [64, 256, 1024])
    .option('--batches <sequences>', 'so many sequences decoded together', integers(1, 1024), [1, 4])
    .option('--contexts <tokens>', 'prompts before them', integers(1, 1_000_000), [64, 1024])
    .option('--repeats <count>', 'of every prompt', integer(1, 100), 3)
    .option('--json <file>', 'write the profiles to a file too; - prints them instead of tables')
    .action((workers: readonly string[], options: Omit<ProfileOptions, 'workers'>) =>
      run(import('./commands/profile.ts'), ({ profile }) => profile({ workers, ...options }, deps)),
    );

  root
    .command('compose')
    .description('write docker-compose.yml and the Prometheus configuration from the topology')
    .option('--topology <file>', 'default: the built-in topology')
    .option('--check', 'write nothing; exit code 1 when the files are not up to date', false)
    .action((options: { topology?: string; check: boolean }) =>
      run(import('./commands/compose.ts'), ({ composeRender }) =>
        composeRender({ topology: options.topology, check: options.check }, { config, out }),
      ),
    );
  addBench(root, { out, signals: process, apiKey: config.apiKey });

  root
    .command('doctor')
    .description(
      'check this machine, and NATS, Redis and workers as seen from here; exit code 1 when something keeps it from working',
    )
    .option('--nats-url <url>', 'default: CAUSEWAY_NATS_URL, or the cluster of this checkout')
    .option('--redis-url <url>', 'default: CAUSEWAY_REDIS_URL, or the cluster of this checkout')
    .option('--nats-monitoring-url <url>', 'default: CAUSEWAY_NATS_MONITORING_URL, or the cluster of this checkout')
    .option('--namespace <name>', 'of the workers; default: CAUSEWAY_NAMESPACE, or that of the cluster of this checkout')
    .option('--json', 'as JSON', false)
    .action((options: DoctorFlags) => {
      const { natsUrl, redisUrl, natsMonitoringUrl, namespace, json } = options;
      const chosen = { natsUrl, redisUrl, natsMonitoringUrl, namespace, json };
      return run(import('./commands/doctor.ts'), ({ doctor }) => doctor(chosen, deps));
    });
  return root;
}

interface UpFlags {
  detach?: boolean;
  httpPort?: number;
  grpcPort?: number;
  host: string;
  model: readonly string[];
  topology?: string;
  wait: number;
  prompt: boolean;
}

interface DoctorFlags {
  natsUrl?: string;
  redisUrl?: string;
  natsMonitoringUrl?: string;
  namespace?: string;
  json: boolean;
}

interface ChatFlags {
  url?: string;
  model?: string;
  system?: string;
  maxTokens?: number;
  temperature?: number;
}

try {
  await program().parseAsync(process.argv);
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed what was wrong; help and version are no failure. Bad usage is 2, as bad configuration is.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
  } else {
    const failure = ServiceError.from(error);
    out.warn(`${out.red('error')}: ${failure.message}`);
    if (failure.reason === 'internal' && failure.cause instanceof Error) out.warn(failure.cause.stack ?? failure.cause.message);
    process.exitCode = failure.reason === 'bad_config' ? 2 : 1;
  }
}
