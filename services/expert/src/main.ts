import { readConfig } from '@causeway/config';
import { runMain } from '@causeway/lifecycle';
import { expertConfig } from './config.ts';
import { runShard } from './server.ts';

await runMain(process, async (ctx) => {
  await runShard(ctx, readConfig(expertConfig, { argv: ctx.argv, env: ctx.env }));
});
