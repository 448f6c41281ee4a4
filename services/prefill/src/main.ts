import { readConfig } from '@causeway/config';
import { runMain } from '@causeway/lifecycle';
import { runWorker } from '@causeway/worker-runtime';
import { config } from './config.ts';
import { services } from './server.ts';

await runMain(process, async (ctx) => {
  await runWorker(ctx, readConfig(config, { argv: ctx.argv, env: ctx.env }), 'prefill', services);
});
