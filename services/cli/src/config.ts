import { defineConfig, readConfig, text, type ConfigOf } from '@causeway/config';

const fields = defineConfig({
  runFolder: {
    env: 'CAUSEWAY_RUN_DIR',
    flag: 'run-dir',
    schema: text(),
    optional: true,
    doc: 'Where state and logs of a running cluster are kept; default .causeway/run in the checkout.',
  },
});

/** What the command line reads from the environment; everything else is an option of a command. */
export type CliConfig = ConfigOf<typeof fields>;

/** @throws ServiceError `bad_config` */
export function readCliConfig(env: Readonly<Record<string, string | undefined>>): CliConfig {
  return readConfig(fields, { env });
}
