/** Fingerprints of models and chained hashes of token blocks. SHA-256 throughout; the same in every process. */
import { createHash, hash } from 'node:crypto';
import { fail } from '@causeway/errors';
import type { Fingerprint, LayerGeometry } from './descriptor.ts';

export interface FingerprintInputs {
  architecture: string;
  /** Lower-case hex SHA-256 of the weights (Checkpoint.weightsHash). */
  weightsHash: string;
  /** Anything that identifies the tokenizer (Tokenizer.hash). */
  tokenizerHash: string;
  /** RoPE settings, any JSON value; key order doesn't matter. */
  rope: unknown;
  layers: readonly LayerGeometry[];
  /** What else decides the numbers of a KV cache (precision, for one), any JSON value. Hashed with the weights. */
  numerics?: unknown;
}

/** Fingerprint of a model: one SHA-256 per field over canonical JSON. */
export function fingerprint(inputs: FingerprintInputs): Fingerprint {
  const digest = (value: unknown) => hash('sha256', canonicalJson(value), 'hex');
  return {
    architecture: digest(inputs.architecture),
    weights: digest([inputs.weightsHash, inputs.numerics ?? null]),
    tokenizer: digest(inputs.tokenizerHash),
    rope: digest(inputs.rope),
    geometry: digest(inputs.layers),
  };
}

/** JSON with sorted keys and no white space; undefined members are left out. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(',')}]`;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

export interface BlockHashOptions {
  fingerprint: Fingerprint;
  /** Separates tenants: equal prompts of two tenants never share a block. */
  salt: string;
  blockTokens: number;
  tokenIds: Uint32Array;
  /** Bytes that also decide the KV of every block, such as an adapter's hash. */
  extras?: Uint8Array;
}

/**
 * Hashes of the complete blocks of a prompt, lower-case hex, in order:
 * h_i = SHA-256(h_(i-1) | token ids of block i as u32 little-endian | extras), h_(-1) = SHA-256(label | fingerprint | salt).
 * About 1 µs a block.
 * @throws ServiceError when blockTokens is not a positive integer.
 */
export function blockHashes(options: BlockHashOptions): string[] {
  const { blockTokens, tokenIds, extras } = options;
  if (!Number.isSafeInteger(blockTokens) || blockTokens < 1) {
    fail('invalid_argument', 'internal', `blockTokens must be a positive integer, not ${blockTokens}`);
  }
  const block = Buffer.alloc(32 + 4 * blockTokens + (extras?.length ?? 0));
  block.set(blockSeed(options.fingerprint, options.salt), 0);
  if (extras !== undefined) block.set(extras, 32 + 4 * blockTokens);
  const hashes: string[] = [];
  for (let end = blockTokens; end <= tokenIds.length; end += blockTokens) {
    for (let i = 0; i < blockTokens; i++) block.writeUInt32LE(tokenIds[end - blockTokens + i] as number, 32 + 4 * i);
    const digest = hash('sha256', block, 'buffer');
    block.set(digest, 0);
    hashes.push(digest.toString('hex'));
  }
  return hashes;
}

function blockSeed(print: Fingerprint, salt: string): Buffer {
  return createHash('sha256').update('causeway.kv.block.v1\0').update(canonicalJson(print)).update('\0').update(salt).digest();
}
