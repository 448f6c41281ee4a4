/**
 * `node logit-bits.ts MODEL PRECISION THREADS` prints hashes of the logits that a model computes with so many threads, as JSON.
 * A process of its own, because a process has one ONNX Runtime environment.
 */
import { createHash } from 'node:crypto';
import { Runtime } from '@causeway/ort';
import type { Precision } from '@causeway/models';
import { generate, generation, type ModelName, numbers, randomIds, startEngine } from './start-engine.ts';

const [name, precision, threads] = process.argv.slice(2) as [ModelName, Precision, string];
const ids = randomIds(numbers(17), 200, 2048);

await using runtime = Runtime.create({ threads: Number(threads) });
await using t = await startEngine(name, { runtime, precision, maxContext: 256, pageCount: 64 });

const prefill = createHash('sha256');
await t.engine.logits(Uint32Array.from(ids), (_, logits) => void prefill.update(logits));
const decode = createHash('sha256');
const prompts = [ids, ids.slice(0, 90), ids.slice(50, 67)];
const answers = await Promise.all(
  prompts.map((prompt) => generate(t.engine, generation(prompt, { maxTokens: 8, returnLogits: true }))),
);
for (const token of answers.flat()) decode.update(token.logits as Float32Array);
if (t.errors.length > 0) throw new AggregateError(t.errors);
process.stdout.write(JSON.stringify({ prefill: prefill.digest('hex'), decode: decode.digest('hex') }));
