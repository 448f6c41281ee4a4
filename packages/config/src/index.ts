export { configHelp, configTable } from './config-table.ts';
export { defineConfig } from './field.ts';
export type { ConfigField, ConfigFields, ConfigOf } from './field.ts';
export { hostPort } from './host-port.ts';
export { LIMITS } from './limits.ts';
export { readConfig } from './read-config.ts';
export type { ConfigSources } from './read-config.ts';
export { bool, byteSize, integer, milliseconds, number, oneOf, port, text, urls } from './schemas.ts';
