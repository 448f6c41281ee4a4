import { defineConfig, readApiKeys, readConfig, text, urls, type ConfigOf } from '@causeway/config';

/** Settings of the command line. */
export const cliConfig = defineConfig({
  runFolder: {
    env: 'CAUSEWAY_RUN_DIR',
    flag: 'run-dir',
    schema: text(),
    optional: true,
    doc: 'Where state and logs of a running cluster are kept; default .causeway/run in the checkout.',
  },
  apiKey: {
    env: 'CAUSEWAY_API_KEY',
    flag: 'api-key',
    schema: text(),
    optional: true,
    secret: true,
    doc: "Key to send to a router; default the first of the router's own settings, when they are set here.",
  },
  apiKeys: {
    env: 'CAUSEWAY_API_KEYS',
    flag: 'api-keys',
    schema: text({ max: 65_536 }),
    optional: true,
    secret: true,
    doc: "The router's keys.",
  },
  apiKeysFile: {
    env: 'CAUSEWAY_API_KEYS_FILE',
    flag: 'api-keys-file',
    schema: text(),
    optional: true,
    doc: "The router's file of keys.",
  },
  models: {
    env: 'CAUSEWAY_MODELS',
    flag: 'models',
    schema: text(),
    optional: true,
    doc: 'Folder of pulled models; default .causeway/models in the checkout.',
  },
  hubEndpoint: {
    env: 'HF_ENDPOINT',
    flag: 'hf-endpoint',
    schema: urls(['https:', 'http:']),
    default: 'https://huggingface.co',
    doc: 'Hugging Face hub, or a mirror of it, that models are pulled from.',
  },
  hubToken: {
    env: 'HF_TOKEN',
    flag: 'hf-token',
    schema: text({ pattern: /^[\u0021-\u007e]+$/, what: 'a token without spaces' }),
    optional: true,
    secret: true,
    doc: 'Token for private and gated repositories.',
  },
  hubHome: {
    env: 'HF_HOME',
    flag: 'hf-home',
    schema: text(),
    optional: true,
    doc: "Folder of Hugging Face's clients, whose `hub` is their cache; default ~/.cache/huggingface.",
  },
  hubCache: {
    env: 'HF_HUB_CACHE',
    flag: 'hf-hub-cache',
    schema: text(),
    optional: true,
    doc: 'That cache itself.',
  },
  ollamaModels: {
    env: 'OLLAMA_MODELS',
    flag: 'ollama-models',
    schema: text(),
    optional: true,
    doc: "Folder of Ollama's models; default ~/.ollama/models, else /usr/share/ollama/.ollama/models.",
  },
});

/** What the command line reads from the environment, all of it; the rest are options of its commands. */
export type CliConfig = ConfigOf<typeof cliConfig>;

/** The key that a router wants, as far as the environment says; undefined: none. @throws ServiceError `bad_config` */
export function routerKey({ apiKey, apiKeys, apiKeysFile }: CliConfig): string | undefined {
  return apiKey ?? readApiKeys({ list: apiKeys, file: apiKeysFile })[0];
}

/** @throws ServiceError `bad_config` */
export function readCliConfig(env: Readonly<Record<string, string | undefined>>): CliConfig {
  return readConfig(cliConfig, { env });
}
