import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { fail } from '@causeway/errors';
import { loadTokenizer, openCheckpoint, readTensor, type Tokenizer } from '@causeway/model-files';
import type { Precision } from '@causeway/models';
import type { VerifyBackend } from './backend.ts';
import { clusterBackend } from './cluster-backend.ts';
import { engineBackend } from './engine-backend.ts';
import { type Golden, readGolden } from './golden.ts';
import { type CaseReport, runVerify, type VerifyInput, type VerifyReport } from './run-verify.ts';

export interface VerifyOptions {
  /** Checkpoint with golden.json beside it. */
  dir: string;
  cluster: boolean;
  precision: Precision;
  threads: number;
  onCase?: (report: CaseReport, done: number, total: number) => void;
}

/** Chunks of 64 tokens: longer references then cross several. */
const CHUNK_TOKENS = 64;
const KV_BUDGET_BYTES = 2 * 1024 ** 3;
const MAX_CONTEXT = 2048;
const MAX_SEQUENCES = 2;
/** Prefix lengths of the teacher-forced sequence that a cluster computes; the engine alone computes all. */
const CLUSTER_LENGTHS = [1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 100, 128, 129, 200, 255, 300, 319, 320];

/**
 * Runs the checkpoint in `dir` against the reference beside it, in this process or through prefill -> NATS -> decode processes.
 * @throws ServiceError when checkpoint or reference can't be read, or a process fails.
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const { dir, precision } = options;
  const golden = readGolden(statSync(dir, { throwIfNoEntry: false })?.isFile() === true ? dirname(dir) : dir);
  const { name, tokenizer } = await describe(dir, golden);
  const forced =
    golden.form === 'logits' && golden.teacherForced !== undefined ? readTeacherForced(golden.teacherForced) : undefined;
  await using backend = await start(options, name);
  const lengths =
    forced === undefined || !options.cluster ? {} : { lengths: CLUSTER_LENGTHS.filter((length) => length <= forced.ids.length) };
  return await runVerify({
    golden,
    backend,
    precision,
    tokenizer,
    teacherForced: forced,
    ...lengths,
    ...(options.onCase === undefined ? {} : { onCase: options.onCase }),
  });
}

async function describe(dir: string, golden: Golden): Promise<{ name: string; tokenizer: Tokenizer | undefined }> {
  using checkpoint = await openCheckpoint(dir);
  const source = checkpoint.tokenizerSource;
  if (golden.form === 'messages' && source === undefined) {
    fail('invalid_argument', 'missing_tensor', `${dir} has reference messages but no tokenizer`);
  }
  return { name: checkpoint.name, tokenizer: source === undefined ? undefined : loadTokenizer(source) };
}

function start(options: VerifyOptions, modelName: string): Promise<VerifyBackend> {
  const { dir, precision, threads } = options;
  if (!options.cluster) {
    return engineBackend({
      modelPath: dir,
      chip: 'cpu',
      threads,
      precision,
      kvBudgetBytes: KV_BUDGET_BYTES,
      maxContext: MAX_CONTEXT,
      maxSequences: MAX_SEQUENCES,
      chunkTokens: CHUNK_TOKENS,
    });
  }
  return clusterBackend({
    modelPath: dir,
    modelName,
    workerEnv: {
      CAUSEWAY_PRECISION: precision,
      CAUSEWAY_THREADS: String(threads),
      CAUSEWAY_KV_BUDGET_BYTES: String(KV_BUDGET_BYTES),
      CAUSEWAY_MAX_CONTEXT: String(MAX_CONTEXT),
      CAUSEWAY_MAX_SEQUENCES: String(MAX_SEQUENCES),
      CAUSEWAY_CHUNK_TOKENS: String(CHUNK_TOKENS),
    },
  });
}

/** Reads `ids` i64 [T] and `logits` f32 [T, vocabulary]. */
function readTeacherForced(path: string): NonNullable<VerifyInput['teacherForced']> {
  const ids = readTensor(path, 'ids', 'I64');
  const logits = readTensor(path, 'logits', 'F32');
  const numbers = Array.from(new BigInt64Array(ids.bytes.buffer, ids.bytes.byteOffset, ids.bytes.byteLength / 8), Number);
  const all = new Float32Array(logits.bytes.buffer, logits.bytes.byteOffset, logits.bytes.byteLength / 4);
  const vocabSize = logits.shape[1] ?? 0;
  if (logits.shape[0] !== numbers.length || logits.shape.length !== 2) {
    fail(
      'invalid_argument',
      'malformed_file',
      `${path}: logits is [${logits.shape.join(', ')}], ids has ${numbers.length} entries`,
    );
  }
  return { ids: numbers, logits: (position) => all.subarray(position * vocabSize, (position + 1) * vocabSize) };
}
