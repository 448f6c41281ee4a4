/** Generated protobuf types of causeway.kv.v1 <-> the types that the rest of the code uses. */
import { fail } from '@causeway/errors';
import {
  type Fingerprint,
  KV_CODECS,
  type KvCodec,
  type KvDescriptor,
  type KvDtype,
  KV_LAYOUTS,
  type KvLayout,
  type KvWireForm,
  type LayerGeometry,
  validateDescriptor,
  validateFingerprint,
} from '@causeway/kv';
import { kvV1 } from '@causeway/proto';

const DTYPES: Readonly<Record<KvDtype, kvV1.KvDtype>> = {
  f32: kvV1.KvDtype.KV_DTYPE_F32,
  f16: kvV1.KvDtype.KV_DTYPE_F16,
  bf16: kvV1.KvDtype.KV_DTYPE_BF16,
  f8e4m3: kvV1.KvDtype.KV_DTYPE_F8E4M3,
  int8: kvV1.KvDtype.KV_DTYPE_INT8,
  int4: kvV1.KvDtype.KV_DTYPE_INT4,
};
const LAYOUTS: Readonly<Record<KvLayout, kvV1.KvLayout>> = {
  NHD: kvV1.KvLayout.KV_LAYOUT_NHD,
  HND: kvV1.KvLayout.KV_LAYOUT_HND,
  NZ: kvV1.KvLayout.KV_LAYOUT_NZ,
};
const CODECS: Readonly<Record<KvCodec, kvV1.KvCodec>> = {
  none: kvV1.KvCodec.KV_CODEC_NONE,
  zstd: kvV1.KvCodec.KV_CODEC_ZSTD,
  'planes+zstd': kvV1.KvCodec.KV_CODEC_PLANES_ZSTD,
};

/** Codec as protobuf. */
export function codecToProto(codec: KvCodec): kvV1.KvCodec {
  return CODECS[codec];
}

/** Codec from protobuf; undefined for one this build doesn't know. */
export function codecFromProto(codec: kvV1.KvCodec): KvCodec | undefined {
  return KV_CODECS.find((name) => CODECS[name] === codec);
}

/** Descriptor as protobuf. */
export function descriptorToProto(descriptor: KvDescriptor): kvV1.KvDescriptor {
  const { storage } = descriptor;
  return {
    version: descriptor.version,
    layers: descriptor.layers.map(layerToProto),
    storage: {
      dtype: DTYPES[storage.dtype],
      layout: LAYOUTS[storage.layout],
      blockTokens: storage.blockTokens,
      shardCount: storage.shards.count,
      shardIndex: storage.shards.index,
      allShards: storage.shards.all === true,
      splitLatent: storage.latent === 'split',
      scale: storage.scale,
    },
  };
}

/** Descriptor from protobuf. @throws ServiceError `descriptor_mismatch` or `newer_version` */
export function descriptorFromProto(message: kvV1.KvDescriptor | undefined): KvDescriptor {
  const storage = message?.storage;
  return validateDescriptor({
    version: message?.version,
    layers: message?.layers.map(layerFromProto),
    storage: {
      dtype: dtypeFromProto(storage?.dtype),
      layout: KV_LAYOUTS.find((name) => LAYOUTS[name] === storage?.layout) ?? `layout ${storage?.layout}`,
      blockTokens: storage?.blockTokens,
      shards: {
        count: storage?.shardCount,
        index: storage?.shardIndex,
        ...(storage?.allShards === true ? { all: true } : {}),
      },
      ...(storage?.splitLatent === true ? { latent: 'split' } : {}),
      ...(storage?.scale === undefined ? {} : { scale: storage.scale }),
    },
  });
}

/** Wire form as protobuf. */
export function wireFormToProto({ dtype, latent, scale }: KvWireForm): kvV1.KvWireForm {
  return { dtype: DTYPES[dtype], splitLatent: latent === 'split', scale };
}

/** Wire form from protobuf. @throws ServiceError `descriptor_mismatch` for one that this build doesn't know or that makes no sense */
export function wireFormFromProto(message: kvV1.KvWireForm): KvWireForm {
  const dtype = dtypeFromProto(message.dtype);
  const { scale } = message;
  if (dtype === undefined)
    return fail('invalid_argument', 'descriptor_mismatch', `wire form: element type ${message.dtype} is unknown`);
  if (scale !== undefined && (dtype !== 'f8e4m3' || !(scale >= 1e-30 && scale <= 1e30))) {
    return fail('invalid_argument', 'descriptor_mismatch', `wire form: scale ${scale} of ${dtype}`);
  }
  return { dtype, ...(message.splitLatent ? { latent: 'split' } : {}), ...(scale === undefined ? {} : { scale }) };
}

/** Element type as protobuf. */
export function dtypeToProto(dtype: KvDtype): kvV1.KvDtype {
  return DTYPES[dtype];
}

/** Fingerprint from protobuf. @throws ServiceError `fingerprint_mismatch` */
export function fingerprintFromProto(message: kvV1.Fingerprint | undefined): Fingerprint {
  return validateFingerprint(message === undefined ? undefined : { ...message });
}

/** 32 hex digits from 16 bytes. @throws ServiceError `malformed_frame` */
export function transferIdFromProto(bytes: Uint8Array): string {
  if (bytes.length !== 16) fail('invalid_argument', 'malformed_frame', `a transfer id has 16 bytes, not ${bytes.length}`);
  return Buffer.from(bytes).toString('hex');
}

/** A u64 from protobuf as a number. @throws ServiceError `malformed_frame` above 2^53 - 1 */
export function count(value: bigint, name: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) fail('invalid_argument', 'malformed_frame', `${name} is ${value}`);
  return Number(value);
}

function layerToProto({ window, entries = [], states = [], ...tokens }: LayerGeometry): kvV1.LayerGeometry {
  return {
    kind: tokensToProto(tokens),
    window,
    entries: entries.map((entry) => ({ ...entry })),
    states: states.map(({ name, dtype, shape }) => ({ name, dtype: DTYPES[dtype], shape: [...shape] })),
  };
}

function tokensToProto(layer: LayerGeometry): kvV1.LayerGeometry['kind'] {
  switch (layer.kind) {
    case 'full': {
      const { kvHeads, headDimK, headDimV } = layer;
      return { $case: 'full', value: { kvHeads, headDimK, headDimV } };
    }
    case 'latent':
      return { $case: 'latent', value: { rank: layer.rank, ropeDim: layer.ropeDim } };
    case 'none':
      return undefined;
  }
}

/** What isn't there is left out, as in descriptors that were made here. */
function layerFromProto({ kind, window, entries, states }: kvV1.LayerGeometry): unknown {
  return {
    ...(kind === undefined ? { kind: 'none' } : { kind: kind.$case, ...kind.value }),
    ...(window === undefined ? {} : { window }),
    ...(entries.length === 0 ? {} : { entries: entries.map((entry) => ({ ...entry })) }),
    ...(states.length === 0 ? {} : { states: states.map(stateFromProto) }),
  };
}

function stateFromProto({ name, dtype, shape }: kvV1.StateGeometry): unknown {
  return { name, dtype: dtypeFromProto(dtype), shape };
}

/** Element type from protobuf; undefined for one that this build doesn't know. */
export function dtypeFromProto(dtype: kvV1.KvDtype | undefined): KvDtype | undefined {
  return (Object.keys(DTYPES) as KvDtype[]).find((name) => DTYPES[name] === dtype);
}
