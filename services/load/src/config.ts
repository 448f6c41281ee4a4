import { type ConfigOf, defineConfig, integer, number, oneOf, text, urls } from '@causeway/config';

/** Settings of the load generator. */
export const loadConfig = defineConfig({
  url: {
    env: 'CAUSEWAY_LOAD_URL',
    flag: 'url',
    schema: urls(['http:', 'https:']),
    default: 'http://127.0.0.1:8000',
    doc: 'Router to ask.',
  },
  rate: {
    env: 'CAUSEWAY_LOAD_RATE',
    flag: 'rate',
    schema: number({ min: 0.01, max: 1000 }),
    default: 1,
    doc: 'Requests per second, on average.',
  },
  maxInFlight: {
    env: 'CAUSEWAY_LOAD_MAX_IN_FLIGHT',
    flag: 'max-in-flight',
    schema: integer({ min: 1, max: 4096 }),
    default: 64,
    doc: 'Requests at once; what would be more is not asked, and counted.',
  },
  placement: {
    env: 'CAUSEWAY_LOAD_PLACEMENT',
    flag: 'placement',
    schema: oneOf(['auto', 'disaggregated', 'local']),
    default: 'auto',
    doc: 'Where prompts shall be read.',
  },
  seed: { env: 'CAUSEWAY_LOAD_SEED', flag: 'seed', schema: integer({}), default: 1, doc: 'The same seed asks the same.' },
  apiKeys: {
    env: 'CAUSEWAY_API_KEYS',
    flag: 'api-keys',
    schema: text(),
    optional: true,
    secret: true,
    doc: 'Keys of the router, comma-separated; the first is sent.',
  },
  logLevel: {
    env: 'CAUSEWAY_LOG_LEVEL',
    flag: 'log-level',
    schema: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
    default: 'info',
    doc: 'Least severe log line to write.',
  },
});

export type LoadConfig = ConfigOf<typeof loadConfig>;
