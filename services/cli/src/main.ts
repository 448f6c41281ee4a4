import { availableParallelism } from 'node:os';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { ServiceError } from '@causeway/errors';
import type { VerifyFlags } from './commands/verify.ts';
import { readCliConfig, routerKey } from './config.ts';
import { runPaths } from './paths.ts';
import { createOutput } from './terminal/output.ts';

const out = createOutput(process);

function integer(min: number, max: number) {
  return (text: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`must be a whole number from ${min} to ${max}.`);
  };
}

function decimal(min: number, max: number) {
  return (text: string): number => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(`must be a number from ${min} to ${max}.`);
  };
}

/** An IPv6 address may come in brackets, as URLs have it. */
function hostAddress(text: string): string {
  return text.replace(/^\[(.*)\]$/, '$1');
}

function precision(text: string): 'exact' | 'fast' {
  if (text === 'exact' || text === 'fast') return text;
  throw new InvalidArgumentError('must be exact or fast.');
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
      'Serves a language model: prompts are prefilled in one process and decoded in another, the KV cache travels over NATS.',
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
    .option('--model <name-or-path>', 'a folder in models/, a checkpoint directory or a .gguf file')
    .option('--topology <file>', 'which pools run (YAML; deploy/topology.example.yaml explains it)')
    .option('--wait <seconds>', 'how long everything may take to become ready', integer(1, 86_400), 180)
    .option('--no-prompt', 'do not send the first prompt')
    .action((options: UpFlags) => {
      const { httpPort, grpcPort, host, model, topology, wait, prompt } = options;
      if (options.detach !== true) {
        return run(import('./commands/up.ts'), ({ up }) => up({ httpPort, grpcPort, host, model, topology, wait, prompt }, deps));
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

  root
    .command('chat')
    .description('talk to the model in the terminal')
    .option('--url <url>', 'router to talk to; default the cluster of this checkout')
    .option('--model <name>', 'model to name in the request; default the one that the router serves')
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
      precision,
      'exact',
    )
    .option('--threads <count>', 'threads of each process', integer(1, 1024), availableParallelism())
    .action((dir: string, options: Omit<VerifyFlags, 'dir'>) =>
      run(import('./commands/verify.ts'), ({ verify }) => verify({ dir, ...options }, deps)),
    );

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
    .command('compose')
    .description('write docker-compose.yml and the Prometheus configuration from the topology')
    .option('--topology <file>', 'default: the built-in topology')
    .option('--check', 'write nothing; exit code 1 when the files are not up to date', false)
    .action((options: { topology?: string; check: boolean }) =>
      run(import('./commands/compose.ts'), ({ composeRender }) =>
        composeRender({ topology: options.topology, check: options.check }, deps),
      ),
    );
  return root;
}

interface UpFlags {
  detach?: boolean;
  httpPort?: number;
  grpcPort?: number;
  host: string;
  model?: string;
  topology?: string;
  wait: number;
  prompt: boolean;
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
