export {
  DESCRIPTOR_VERSION,
  DTYPE_BYTES,
  KV_DTYPES,
  layerSections,
  layerTokenBytes,
  pageBytes,
  tokenBytes,
} from './descriptor.ts';
export type { Fingerprint, KvDescriptor, KvDtype, KvLayout, KvStorage, LayerGeometry } from './descriptor.ts';
