/** Descriptors and fingerprints from outside: validated, and compared field by field. */
import { ServiceError, fail } from '@causeway/errors';
import { z } from 'zod';
import {
  DESCRIPTOR_VERSION,
  DTYPE_BYTES,
  type Fingerprint,
  FLOAT_DTYPES,
  isWireOrder,
  KV_DTYPES,
  KV_LAYOUTS,
  type KvDescriptor,
  type KvStorage,
  type LayerGeometry,
  stateElements,
} from './descriptor.ts';
import { pageBytes } from './page-size.ts';
import { shardHeads, shardParts } from './stored-parts.ts';
import { fixedBytes } from './fixed-area.ts';

/** Largest page that is accepted, bytes. */
export const MAX_PAGE_BYTES = 1 << 30;

const count = (max: number) => z.number().int().min(1).max(max);

/** Longest name of entries and states, most dimensions of a state. */
export const MAX_NAME_LENGTH = 64;
export const MAX_STATE_DIMENSIONS = 8;
/** Windows and states of one sequence, bytes. */
const MAX_FIXED_BYTES = 2 ** 32;

const name = z
  .string()
  .max(MAX_NAME_LENGTH)
  .regex(/^[A-Za-z][A-Za-z0-9_.-]*$/, 'must be letters, digits, dots, dashes and underscores');

const unique = (list: readonly { name: string }[]) => new Set(list.map((item) => item.name)).size === list.length;

const entriesSchema = z.strictObject({ name, ratio: count(4096), width: count(65_536) });
const stateSchema = z.strictObject({
  name,
  dtype: z.enum(FLOAT_DTYPES),
  shape: z
    .array(count(0x7fff_ffff))
    .min(1)
    .max(MAX_STATE_DIMENSIONS)
    .refine((shape) => stateElements({ shape }) * 4 <= MAX_FIXED_BYTES, `must be a state of at most ${MAX_FIXED_BYTES} bytes`)
    .readonly(),
});

const extras = {
  entries: z.array(entriesSchema).min(1).max(8).refine(unique, 'two entries of one name').readonly().optional(),
  states: z.array(stateSchema).min(1).max(16).refine(unique, 'two states of one name').readonly().optional(),
};
const window = count(1 << 24).optional();

const layerSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('full'),
    kvHeads: count(4096),
    headDimK: count(4096),
    headDimV: count(4096),
    window,
    ...extras,
  }),
  z.strictObject({
    kind: z.literal('latent'),
    rank: count(65_536),
    ropeDim: z.number().int().min(0).max(4096),
    window,
    ...extras,
  }),
  z.strictObject({ kind: z.literal('none'), ...extras }),
]);

/** zod schema of a KvDescriptor as it stands in registrations. */
export const descriptorSchema = z.strictObject({
  version: z.literal(DESCRIPTOR_VERSION),
  layers: z.array(layerSchema).min(1).max(1024),
  storage: z
    .strictObject({
      dtype: z.enum(KV_DTYPES),
      layout: z.enum(KV_LAYOUTS),
      blockTokens: count(4096),
      shards: z.strictObject({ count: count(1024), index: z.number().int().min(0), all: z.literal(true).optional() }),
      latent: z.literal('split').optional(),
      scale: z.number().positive().max(1e30).min(1e-30).optional(),
    })
    .refine((storage) => storage.scale === undefined || storage.dtype === 'f8e4m3', 'scale belongs to f8e4m3')
    .refine((storage) => storage.shards.index < storage.shards.count, 'shards.index must be below shards.count')
    .refine(
      ({ shards }) => shards.all === undefined || (shards.index === 0 && shards.count > 1),
      'shards.all belongs to shards.index 0 of several shards',
    ),
});

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'must be a lower-case hex SHA-256');

/** zod schema of a Fingerprint as it stands in registrations. */
export const fingerprintSchema = z.strictObject({
  architecture: sha256,
  weights: sha256,
  tokenizer: sha256,
  rope: sha256,
  geometry: sha256,
});

/**
 * Checks a descriptor of unknown origin.
 * @throws ServiceError `descriptor_mismatch` that names the field at fault; `newer_version` when it says a higher version.
 */
export function validateDescriptor(value: unknown): KvDescriptor {
  const version = (value as { version?: unknown } | null | undefined)?.version;
  if (typeof version === 'number' && version > DESCRIPTOR_VERSION) {
    fail(
      'failed_precondition',
      'newer_version',
      `the KV descriptor has version ${version}; this process understands ${DESCRIPTOR_VERSION}`,
    );
  }
  const parsed = descriptorSchema.safeParse(value);
  if (!parsed.success) {
    throw new ServiceError(`bad KV descriptor: ${firstIssue(parsed.error)}`, {
      code: 'invalid_argument',
      reason: 'descriptor_mismatch',
    });
  }
  checkMemory(parsed.data);
  return parsed.data;
}

/** Sizes that no single field decides. */
function checkMemory(descriptor: KvDescriptor): void {
  const { blockTokens } = descriptor.storage;
  for (const [layer, { entries = [] }] of descriptor.layers.entries()) {
    const odd = entries.find(({ ratio }) => blockTokens % ratio !== 0);
    if (odd === undefined) continue;
    bad(`layers.${layer}: blocks of ${blockTokens} tokens don't hold whole entries "${odd.name}" of ${odd.ratio} tokens`);
  }
  for (const [index, layer] of descriptor.layers.entries()) checkNative(index, layer, descriptor.storage);
  const bytes = pageBytes(descriptor);
  if (bytes > MAX_PAGE_BYTES) bad(`a page would take ${bytes} bytes; the limit is ${MAX_PAGE_BYTES}`);
  if (bytes === 0) bad('no layer keeps tokens or entries: pages would be empty');
  const fixed = fixedBytes(descriptor);
  if (fixed > MAX_FIXED_BYTES) bad(`windows and states would take ${fixed} bytes a sequence; the limit is ${MAX_FIXED_BYTES}`);
}

/** What pages in a chip's own storage can hold. */
function checkNative(index: number, layer: LayerGeometry, storage: KvStorage): void {
  if (isWireOrder(storage)) return;
  const { dtype, layout, shards } = storage;
  if (layer.window !== undefined || layer.entries !== undefined || layer.states !== undefined) {
    bad(`layers.${index}: windows, entries and states are kept in f32, f16 or bf16, NHD, unsharded, not in ${dtype} ${layout}`);
  }
  for (const part of shardParts(layer, storage)) {
    if (layer.kind === 'full' && shardHeads(layer.kvHeads, shards) === undefined) {
      bad(`layers.${index}: ${layer.kvHeads} KV heads can't be dealt to ${shards.count} shards evenly`);
    }
    if ((part.width * DTYPE_BYTES[part.dtype]) % 4 !== 0) {
      bad(`layers.${index}: heads of ${part.width} numbers of ${part.dtype} are no whole number of 4-byte words`);
    }
  }
}

function bad(message: string): never {
  return fail('invalid_argument', 'descriptor_mismatch', `bad KV descriptor: ${message}`);
}

/** Checks a fingerprint of unknown origin. @throws ServiceError `fingerprint_mismatch` that names the field at fault. */
export function validateFingerprint(value: unknown): Fingerprint {
  const parsed = fingerprintSchema.safeParse(value);
  if (!parsed.success) {
    throw new ServiceError(`bad fingerprint: ${firstIssue(parsed.error)}`, {
      code: 'invalid_argument',
      reason: 'fingerprint_mismatch',
    });
  }
  return parsed.data;
}

/**
 * Refuses a peer whose model differs.
 * @throws ServiceError `fingerprint_mismatch` naming every field that differs.
 */
export function compareFingerprints(here: Fingerprint, there: Fingerprint): void {
  const fields = ['architecture', 'weights', 'tokenizer', 'rope', 'geometry'] as const;
  const differing = fields.filter((field) => here[field] !== there[field]);
  if (differing.length === 0) return;
  const details = differing.map((field) => `${field} (${here[field].slice(0, 12)} here, ${there[field].slice(0, 12)} there)`);
  fail('failed_precondition', 'fingerprint_mismatch', `the workers do not run the same model: ${details.join(', ')} differ`);
}

/**
 * Refuses a peer that stores KV in another form.
 * @throws ServiceError `descriptor_mismatch` naming the first field that differs and both values.
 */
export function compareDescriptors(here: KvDescriptor, there: KvDescriptor): void {
  const difference = firstDifference('', here, there);
  if (difference !== undefined) fail('failed_precondition', 'descriptor_mismatch', `the workers' KV differs: ${difference}`);
}

/**
 * Refuses a peer whose KV is something else, however it stores it.
 * @throws ServiceError `descriptor_mismatch` naming the first field that differs and both values.
 */
export function compareGeometry(here: KvDescriptor, there: KvDescriptor): void {
  compareDescriptors(here, { ...there, storage: here.storage });
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue === undefined ? 'unreadable' : `${issue.path.join('.') || 'value'}: ${issue.message}`;
}

function firstDifference(path: string, here: unknown, there: unknown): string | undefined {
  if (typeof here !== 'object' || here === null || typeof there !== 'object' || there === null) {
    return here === there ? undefined : `${path} is ${String(here)} here, ${String(there)} there`;
  }
  if (Array.isArray(here) && Array.isArray(there) && here.length !== there.length) {
    return `${path}.length is ${here.length} here, ${there.length} there`;
  }
  const keys = new Set([...Object.keys(here), ...Object.keys(there)]);
  for (const key of keys) {
    const name = Array.isArray(here) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`;
    const difference = firstDifference(name, (here as Record<string, unknown>)[key], (there as Record<string, unknown>)[key]);
    if (difference !== undefined) return difference;
  }
  return undefined;
}
