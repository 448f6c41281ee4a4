import manifest from '../package.json' with { type: 'json' };

/** Of this router. */
export const VERSION: string = manifest.version;
