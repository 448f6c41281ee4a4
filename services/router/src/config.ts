import {
  byteSize,
  type ConfigOf,
  defineConfig,
  integer,
  milliseconds,
  NAMESPACE,
  OBSERVING_FIELDS,
  oneOf,
  port,
  REASONING_PARSERS,
  text,
  textsByName,
  TOOL_PARSERS,
  urls,
} from '@causeway/config';
import { DEFAULT_LOCAL_PREFILL_TOKENS } from '@causeway/scheduling';
import { LOG_LEVELS } from '@causeway/telemetry';

/** Settings of the router. */
export const routerConfig = defineConfig({
  httpPort: {
    env: 'CAUSEWAY_HTTP_PORT',
    flag: 'http-port',
    schema: port(),
    default: 8000,
    doc: 'Port of the OpenAI API; 0: any free one.',
  },
  grpcPort: {
    env: 'CAUSEWAY_GRPC_PORT',
    flag: 'grpc-port',
    schema: port(),
    default: 50_051,
    doc: 'Port of the gRPC API; 0: any free one.',
  },
  host: { env: 'CAUSEWAY_HOST', flag: 'host', schema: text({ max: 255 }), default: '127.0.0.1', doc: 'Address to listen on.' },
  apiKeys: {
    env: 'CAUSEWAY_API_KEYS',
    flag: 'api-keys',
    schema: text({ max: 65_536 }),
    optional: true,
    secret: true,
    doc: 'Keys, comma-separated, of which clients must send one (`Authorization: Bearer`); without keys anybody may ask.',
  },
  apiKeysFile: {
    env: 'CAUSEWAY_API_KEYS_FILE',
    flag: 'api-keys-file',
    schema: text(),
    optional: true,
    doc: 'File with more such keys, one a line; read at start.',
  },
  observabilityPort: {
    env: 'CAUSEWAY_OBSERVABILITY_PORT',
    flag: 'observability-port',
    schema: port(),
    default: 0,
    doc: 'Port of /metrics, /livez and /readyz; 0: any free one.',
  },
  ...OBSERVING_FIELDS,
  redisUrl: {
    env: 'CAUSEWAY_REDIS_URL',
    flag: 'redis-url',
    schema: urls(['redis:', 'rediss:']),
    default: 'redis://127.0.0.1:6379',
    doc: 'Redis that holds the registry of workers.',
  },
  namespace: {
    env: 'CAUSEWAY_NAMESPACE',
    flag: 'namespace',
    schema: text({ max: 32, pattern: NAMESPACE, what: 'lower-case letters, digits and dashes' }),
    optional: true,
    doc: 'Keeps clusters that share a Redis apart: only processes of the same namespace see each other.',
  },
  modelPath: {
    env: 'CAUSEWAY_MODEL_PATH',
    flag: 'model-path',
    schema: text(),
    optional: true,
    doc: 'Checkpoint whose tokenizer and chat template are used: a directory or a GGUF file.',
  },
  modelName: {
    env: 'CAUSEWAY_MODEL_NAME',
    flag: 'model-name',
    schema: text({ max: 256 }),
    optional: true,
    doc: "Name that clients use; default: the checkpoint's own.",
  },
  modelPaths: {
    env: 'CAUSEWAY_MODEL_PATHS',
    flag: 'model-paths',
    schema: textsByName(),
    optional: true,
    doc: 'Instead of these two, for several models: names and checkpoints as JSON, such as `{"a": "/models/a"}`.',
  },
  chatTemplate: {
    env: 'CAUSEWAY_CHAT_TEMPLATE',
    flag: 'chat-template',
    schema: text(),
    optional: true,
    doc: "File with a chat template (Jinja) to be used instead of the checkpoint's own.",
  },
  toolParser: {
    env: 'CAUSEWAY_TOOL_PARSER',
    flag: 'tool-parser',
    schema: oneOf(TOOL_PARSERS),
    default: 'auto',
    doc: 'How the model writes calls of tools; `auto` goes by its chat template, `none` refuses `tools`.',
  },
  reasoningParser: {
    env: 'CAUSEWAY_REASONING_PARSER',
    flag: 'reasoning-parser',
    schema: oneOf(REASONING_PARSERS),
    default: 'auto',
    doc: 'How the model marks reasoning: `think` is `<think>`; `auto` goes by its chat template, `none` leaves it in the content.',
  },
  placement: {
    env: 'CAUSEWAY_PLACEMENT',
    flag: 'placement',
    schema: oneOf(['auto', 'disaggregated', 'local']),
    default: 'auto',
    doc: 'Where prompts are prefilled: `auto` goes by length, a request may say otherwise.',
  },
  localPrefillTokens: {
    env: 'CAUSEWAY_LOCAL_PREFILL_TOKENS',
    flag: 'local-prefill-tokens',
    schema: integer(),
    default: DEFAULT_LOCAL_PREFILL_TOKENS,
    doc: 'With `auto`, shorter prompts are prefilled where they are decoded.',
  },
  recovery: {
    env: 'CAUSEWAY_RECOVERY',
    flag: 'recovery',
    schema: oneOf(['fast', 'exact']),
    default: 'fast',
    doc: 'How an answer is continued after a loss or a preemption: `fast` prefills the tokens so far, `exact` replays them as decode steps (bit-equal).',
  },
  maxQueue: {
    env: 'CAUSEWAY_MAX_QUEUE',
    flag: 'max-queue',
    schema: integer({ max: 1_000_000 }),
    default: 256,
    doc: 'Requests that may wait for a worker, of each model; more are refused with 429.',
  },
  maxInFlight: {
    env: 'CAUSEWAY_MAX_IN_FLIGHT',
    flag: 'max-in-flight',
    schema: integer({ min: 1, max: 1_000_000 }),
    default: 1024,
    doc: 'Requests in the router altogether, running ones included; more are refused with 429.',
  },
  queueWaitMs: {
    env: 'CAUSEWAY_QUEUE_WAIT_MS',
    flag: 'queue-wait-ms',
    schema: milliseconds({ min: 1 }),
    default: 30_000,
    doc: 'Longest wait for a worker before a request is refused.',
  },
  requestTimeoutMs: {
    env: 'CAUSEWAY_REQUEST_TIMEOUT_MS',
    flag: 'request-timeout-ms',
    schema: milliseconds({ min: 1 }),
    default: 600_000,
    doc: 'Longest life of a request.',
  },
  maxBodyBytes: {
    env: 'CAUSEWAY_MAX_BODY_BYTES',
    flag: 'max-body-bytes',
    schema: byteSize({ min: 1, max: 256 * 1024 * 1024 }),
    default: '1MiB',
    doc: 'Largest HTTP body (more is refused with 413) and gRPC request (RESOURCE_EXHAUSTED).',
  },
  defaultMaxTokens: {
    env: 'CAUSEWAY_DEFAULT_MAX_TOKENS',
    flag: 'default-max-tokens',
    schema: integer({ min: 1 }),
    optional: true,
    doc: 'Longest answer of a request that does not say; default: what is left of the context.',
  },
  maxAttempts: {
    env: 'CAUSEWAY_MAX_ATTEMPTS',
    flag: 'max-attempts',
    schema: integer({ min: 1, max: 100 }),
    default: 4,
    doc: 'Attempts at one answer before it fails.',
  },
  stallMs: {
    env: 'CAUSEWAY_STALL_MS',
    flag: 'stall-ms',
    schema: milliseconds({ min: 100 }),
    default: 5000,
    doc: 'A token that is due for this long from a worker that no longer renews its lease counts as lost with its worker.',
  },
  hangMs: {
    env: 'CAUSEWAY_HANG_MS',
    flag: 'hang-ms',
    schema: milliseconds({ min: 100 }),
    default: 60_000,
    doc: 'A token that is due for this long counts as lost even when its worker renews its lease; 50 ms more for each token that is replayed first.',
  },
  recoveryWaitMs: {
    env: 'CAUSEWAY_RECOVERY_WAIT_MS',
    flag: 'recovery-wait-ms',
    schema: milliseconds(),
    default: 30_000,
    doc: 'How long an answer that lost its worker waits for another to appear.',
  },
  tokenizerThreads: {
    env: 'CAUSEWAY_TOKENIZER_THREADS',
    flag: 'tokenizer-threads',
    schema: integer({ min: 1, max: 64 }),
    default: 1,
    doc: 'Worker threads that tokenize prompts, of each model.',
  },
  drainMs: {
    env: 'CAUSEWAY_DRAIN_MS',
    flag: 'drain-ms',
    schema: milliseconds(),
    default: 10_000,
    doc: 'How long running requests may take to end after SIGTERM.',
  },
  startupDeadlineMs: {
    env: 'CAUSEWAY_STARTUP_DEADLINE_MS',
    flag: 'startup-deadline-ms',
    schema: milliseconds({ min: 1 }),
    default: 30_000,
    doc: 'How long to wait for Redis at start.',
  },
  logLevel: {
    env: 'CAUSEWAY_LOG_LEVEL',
    flag: 'log-level',
    schema: oneOf(LOG_LEVELS),
    default: 'info',
    doc: 'Least severe log line to write.',
  },
  failpoints: {
    env: 'CAUSEWAY_FAILPOINTS',
    flag: 'failpoints',
    schema: text(),
    optional: true,
    doc: 'For tests: failpoints to arm, such as `mid_decode:3=pause`.',
  },
  failpointDir: {
    env: 'CAUSEWAY_FAILPOINT_DIR',
    flag: 'failpoint-dir',
    schema: text(),
    optional: true,
    doc: 'For tests: where paused failpoints meet the test.',
  },
});

export type RouterConfig = ConfigOf<typeof routerConfig>;

/** Rules over several settings, for `readConfig`. */
export function checkRouterConfig({ modelPath, modelPaths, chatTemplate }: RouterConfig): readonly string[] {
  if (chatTemplate !== undefined && Object.keys(modelPaths ?? {}).length > 1)
    return ['CAUSEWAY_CHAT_TEMPLATE (or --chat-template) is the template of one model, and CAUSEWAY_MODEL_PATHS names several'];
  if (modelPath !== undefined || modelPaths !== undefined) return [];
  return [
    'CAUSEWAY_MODEL_PATH (or --model-path) is required: a directory or a GGUF file; or CAUSEWAY_MODEL_PATHS for several models',
  ];
}

/** Checkpoints to serve; without a name it is the checkpoint's own. */
export function configuredModels(config: RouterConfig): readonly { name: string | undefined; path: string }[] {
  const { modelPath, modelName, modelPaths } = config;
  if (modelPaths !== undefined) return Object.entries(modelPaths).map(([name, path]) => ({ name, path }));
  return modelPath === undefined ? [] : [{ name: modelName, path: modelPath }];
}
