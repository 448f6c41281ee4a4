/**
 * What codecs cost and gain on KV of a real model: ratio, and GB of raw bytes that one thread encodes and decodes in a second of processor
 * time, checksums of both ends included. Writes docs/reports/kv-codecs.json.
 *
 * Usage: node tests/bench/kv-codecs.ts [--model DIR] [--tokens 512] [--repeats 7] [--dtypes bf16,f16,f32]
 */
import { basename } from 'node:path';
import { DTYPE_BYTES, type KvCodec, type KvDtype } from '@causeway/kv';
import { decodeRuns, encodeRuns } from '@causeway/kv/internal';
import { flag, showSpread, type Spread, spread, writeReport } from './bench-report.ts';
import { realKv, SMOLLM2 } from './real-kv.ts';

const model = flag('model', SMOLLM2);
const tokens = Number(flag('tokens', '512'));
const repeats = Number(flag('repeats', '7'));
const dtypes = flag('dtypes', 'bf16,f16,f32').split(',') as KvDtype[];
/** Parts of a transfer are at most as long. */
const PART_BYTES = (1 << 20) - 64;
/** In one measurement: the system tells a thread's time in steps. */
const PASSES = 5;
const CODECS = ['zstd', 'planes+zstd'] as const satisfies KvCodec[];

interface Row {
  dtype: KvDtype;
  codec: KvCodec;
  ratio: number;
  /** GB/s. */
  encode: number;
  decode: number;
}

/** Some passes over all parts, there and back. */
function pass(dtype: KvDtype, codec: KvCodec, parts: readonly Uint8Array[]): Row {
  const elementBytes = DTYPE_BYTES[dtype] as 2 | 4;
  const bodies = parts.map((part) => new Uint8Array(part.length));
  const rawBytes = parts.reduce((sum, part) => sum + part.length, 0);
  const back = new Uint8Array(PART_BYTES);
  const run = (region: number, length: number) => [{ region, offset: 0, length }];
  const speed = (step: () => void): number => {
    const before = process.threadCpuUsage();
    for (let pass = 0; pass < PASSES; pass++) step();
    const { user, system } = process.threadCpuUsage(before);
    return (PASSES * rawBytes) / (user + system) / 1e3;
  };
  let encoded: ReturnType<typeof encodeRuns>[] = [];
  const encode = speed(() => {
    encoded = parts.map((part, i) => {
      const [out] = run(1, part.length);
      const view = ({ region, length }: { region: number; length: number }) =>
        region === 0 ? part.subarray(0, length) : (bodies[i] as Uint8Array).subarray(0, length);
      return encodeRuns(
        codec,
        elementBytes,
        run(0, part.length),
        out as { region: number; offset: number; length: number },
        view,
      );
    });
  });
  const decode = speed(() => {
    for (const [i, { codec: used, encodedBytes, rawCrc }] of encoded.entries()) {
      const body = (bodies[i] as Uint8Array).subarray(0, encodedBytes);
      decodeRuns(used, elementBytes, body, rawCrc, run(0, (parts[i] as Uint8Array).length), ({ length }) =>
        back.subarray(0, length),
      );
    }
  });
  return { dtype, codec, ratio: rawBytes / encoded.reduce((sum, { encodedBytes }) => sum + encodedBytes, 0), encode, decode };
}

const runs: Row[] = [];
for (const dtype of dtypes) {
  const kv = await realKv(model, tokens, { CAUSEWAY_KV_DTYPE: dtype });
  const parts = kv.pages.flatMap((page) =>
    Array.from({ length: Math.ceil(page.length / PART_BYTES) }, (_, i) => page.slice(i * PART_BYTES, (i + 1) * PART_BYTES)),
  );
  // the first rounds count for nothing: code is compiled
  for (let repeat = -2; repeat < repeats; repeat++) {
    for (const codec of CODECS) {
      const row = pass(dtype, codec, parts);
      if (repeat >= 0) runs.push(row);
    }
  }
}
const summary: { dtype: KvDtype; codec: KvCodec; ratio: number; encode: Spread; decode: Spread }[] = dtypes.flatMap((dtype) =>
  CODECS.map((codec) => {
    const own = runs.filter((row) => row.dtype === dtype && row.codec === codec);
    const [{ ratio }] = own as [Row];
    return { dtype, codec, ratio, encode: spread(own.map((row) => row.encode)), decode: spread(own.map((row) => row.decode)) };
  }),
);
for (const { dtype, codec, ratio, encode, decode } of summary) {
  console.log(`${dtype} ${codec}: ${ratio.toFixed(3)}, encode ${showSpread(encode)} GB/s, decode ${showSpread(decode)} GB/s`);
}
const args = process.argv.slice(2).filter((arg, i, argv) => arg !== '--model' && argv[i - 1] !== '--model');
writeReport('kv-codecs', {
  command: `./causeway bench kv-codecs ${args.join(' ')}`.trim(),
  peers: {},
  setting: { model: basename(model), tokens, repeats, unit: 'GB of raw bytes per second of processor time, one thread' },
  repeats: runs,
  summary,
});
