import manifest from '../package.json' with { type: 'json' };

/** Version of the checkout or image that this process runs from. */
export const VERSION: string = manifest.version;
