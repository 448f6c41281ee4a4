export { CODEC_NUMBERS, codecOfNumber, KV_CODECS } from './codec.ts';
export type { KvCodec } from './codec.ts';
export {
  DESCRIPTOR_VERSION,
  DTYPE_BYTES,
  FLOAT_DTYPES,
  hasFactors,
  isFloat,
  isWireOrder,
  KV_DTYPES,
  KV_LAYOUTS,
  keepsTokens,
  layerSections,
  ROUNDED_WIRES,
} from './descriptor.ts';
export { pageBytes, tokenBytes, wirePageBytes } from './page-size.ts';
export { layerForm, lineNumbers, pageForm } from './page-form.ts';
export type { PagedPart } from './page-form.ts';
export type {
  EntriesGeometry,
  Fingerprint,
  FloatDtype,
  KvDescriptor,
  KvDtype,
  KvLayout,
  KvStorage,
  KvWireForm,
  LayerGeometry,
  RoundedWire,
  StateGeometry,
} from './descriptor.ts';
export {
  compareDescriptors,
  compareFingerprints,
  compareGeometry,
  descriptorSchema,
  fingerprintSchema,
  MAX_NAME_LENGTH,
  MAX_PAGE_BYTES,
  MAX_STATE_DIMENSIONS,
  validateDescriptor,
  validateFingerprint,
} from './descriptor-check.ts';
export { blockHashes, canonicalJson, fingerprint } from './fingerprint.ts';
export type { BlockHashOptions, FingerprintInputs } from './fingerprint.ts';
export { layerGroups } from './layer-groups.ts';
export type { LayerRange } from './layer-groups.ts';
export { PagePool, PageSet } from './page-pool.ts';
export type { PagePoolOptions, PageState } from './page-pool.ts';
export { finalLayer, ObjectGeometry } from './kv-object.ts';
export type { KvObject } from './kv-object.ts';
export { MAX_OBJECTS, objectTable, objectTokens } from './object-table.ts';
export type { ComputeOrder } from './object-table.ts';
export { PageLayout, sliceSegments } from './page-layout.ts';
export type { ObjectPlaces, Segment } from './page-layout.ts';
export { checkCover } from './table-cover.ts';
export { CodecPool } from './codec-pool.ts';
export type { CodecPoolOptions, Codecs, DecodeJob, EncodeJob } from './codec-pool.ts';
export type { DecodedPart, EncodedPart, MemoryRun } from './codec-messages.ts';
export { CodecPolicy } from './codec-policy.ts';
export type { CodecDecision, CodecFigures, CodecPolicyOptions, LinkBandwidth } from './codec-policy.ts';
export { RecentMedian } from './recent-median.ts';
export { CodecMeasures } from './codec-measures.ts';
export type { CodecMeasure } from './codec-measures.ts';
export { SlotArena } from './slot-arena.ts';
export type { Slot } from './slot-arena.ts';
export { BlockConverter } from './convert-block.ts';
export { LARGEST_CODE, LEAST_MAGNITUDE } from './number-format.ts';
export { arenaStorages, missingHeads } from './stored-parts.ts';
export { chooseWire, holdsExactly, storageName, wireDescriptor, wireFormOf } from './wire-choice.ts';
export type { WireChoice, WireTerms } from './wire-choice.ts';
export type { ConvertBlock, ConvertJob } from './codec-messages.ts';
export { wireMemories } from './wire-memory.ts';
export type { WireMemories, WireMemory } from './wire-memory.ts';
