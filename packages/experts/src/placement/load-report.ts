/** What workers ask of each expert: each writes its own counts, whoever plans sums them up. */
import { expertLoadsKey, type RedisConnection } from '@causeway/registry';
import { z } from 'zod';
import type { ExpertLoads } from './plan.ts';

const REPORT_TTL_MS = 60_000;
const MAX_REPORT_BYTES = 4 * 1024 * 1024;
const reportSchema = z.object({
  at: z.number(),
  layers: z.record(z.string().regex(/^\d{1,4}$/), z.array(z.number().min(0)).max(4096)),
});

/** Writes a worker's counts, by layer. */
export async function writeLoads(redis: RedisConnection, model: string, worker: string, loads: ExpertLoads): Promise<void> {
  const key = expertLoadsKey(model);
  const layers = Object.fromEntries([...loads].map(([layer, counts]) => [layer, counts.map((count) => Math.round(count))]));
  await redis.client
    .multi()
    .hset(key, worker, JSON.stringify({ at: Date.now(), layers }))
    .pexpire(key, REPORT_TTL_MS)
    .exec();
}

/** The sum of all workers' counts of the last minute; reports that can't be read are left out. */
export async function readLoads(redis: RedisConnection, model: string): Promise<ExpertLoads> {
  const reports = await redis.client.hgetall(expertLoadsKey(model));
  const sum = new Map<number, number[]>();
  for (const text of Object.values(reports)) {
    const report = parse(text);
    if (report === undefined || Math.abs(Date.now() - report.at) > REPORT_TTL_MS) continue;
    for (const [layer, counts] of Object.entries(report.layers)) {
      const all = sum.get(Number(layer)) ?? [];
      sum.set(Number(layer), all);
      for (const [expert, count] of counts.entries()) all[expert] = (all[expert] ?? 0) + count;
    }
  }
  return sum;
}

function parse(text: string): z.infer<typeof reportSchema> | undefined {
  if (text.length > MAX_REPORT_BYTES) return undefined;
  try {
    return reportSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
