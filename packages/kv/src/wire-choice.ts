/** In which form the numbers of a transfer travel, chosen by the sender from what both ends store and what the receiver takes. */
import { fail } from '@causeway/errors';
import { unconvertible } from './convert-block.ts';
import {
  hasFactors,
  type KvDescriptor,
  type KvDtype,
  type KvStorage,
  type KvWireForm,
  type LayerGeometry,
  type RoundedWire,
} from './descriptor.ts';
import { layerTokenBytes } from './page-size.ts';
import { missingHeads } from './stored-parts.ts';

export interface WireChoice {
  form: KvWireForm;
  /** Whether the receiver's pages will hold exactly the sender's numbers. */
  lossless: boolean;
  /** For the log. */
  reason: string;
}

export interface WireTerms {
  /** What the sender stores. */
  from: KvDescriptor;
  /** What the receiver stores. */
  to: KvDescriptor;
  /** Element types that the receiver takes. */
  accepted: readonly KvDtype[];
  /** Whether both deployments let numbers be rounded on their way. */
  lossy: boolean;
  /** In which type the sender's deployment wants numbers to travel though it rounds; where that isn't allowed or possible it doesn't hold. */
  rounded?: RoundedWire | undefined;
}

/** The wire form of a storage: its numbers and factors, token after token. */
export function wireFormOf({ dtype, latent, scale }: KvStorage): KvWireForm {
  return { dtype, ...(latent === undefined ? {} : { latent }), ...(scale === undefined ? {} : { scale }) };
}

/** A descriptor whose pages are in wire order in this form. */
export function wireDescriptor(descriptor: KvDescriptor, form: KvWireForm): KvDescriptor {
  const { blockTokens } = descriptor.storage;
  return { ...descriptor, storage: { ...form, layout: 'NHD', blockTokens, shards: { count: 1, index: 0 } } };
}

/** How a storage is called in logs and answers: `bf16 NZ 128`, with shards and parts where there are some. */
export function storageName({ dtype, layout, blockTokens, shards, latent, scale }: KvStorage): string {
  const shard =
    shards.count === 1 ? '' : shards.all === true ? ` ${shards.count} shards` : ` shard ${shards.index}/${shards.count}`;
  return `${dtype}${scale === undefined ? '' : `*${scale}`} ${layout} ${blockTokens}${latent === undefined ? '' : ' split'}${shard}`;
}

/** Whether every number that the one form holds is a number of the other. */
export function holdsExactly(holder: KvWireForm, held: KvWireForm, layers: readonly LayerGeometry[]): boolean {
  const { dtype } = held;
  const latents = layers.some(({ kind }) => kind === 'latent');
  if (holder.dtype === dtype) {
    if (dtype === 'f8e4m3') return (holder.scale ?? 1) === (held.scale ?? 1);
    // factors of the two parts apart are not factors of both together
    return !hasFactors(dtype) || !latents || holder.latent === held.latent;
  }
  if (holder.dtype === 'f32') return dtype !== 'f8e4m3' || isPowerOfTwo(held.scale ?? 1);
  if (holder.dtype === 'f16' || holder.dtype === 'bf16') return dtype === 'f8e4m3' && (held.scale ?? 1) === 1;
  return false;
}

/**
 * The accepted form that weighs least among those that lose nothing that the receiver's storage can hold: the sender's own where
 * that is exact, the receiver's own where it rounds, f32 else.
 * @throws ServiceError `descriptor_mismatch` when numbers would be rounded and either deployment forbids it, or no form will do
 */
export function chooseWire(terms: WireTerms): WireChoice {
  const { from, to, accepted, lossy } = terms;
  const sent = wireFormOf(from.storage);
  const kept = wireFormOf(to.storage);
  const names = `${storageName(from.storage)} to ${storageName(to.storage)}`;
  const missing = missingHeads(from.layers, from.storage, to.storage);
  if (missing !== undefined) return mismatch(`${names}: ${missing}`);
  const lossless = holdsExactly(kept, sent, from.layers);
  if (!lossless && !lossy) {
    return mismatch(
      `${names} rounds numbers, and this deployment allows only exact transfers: set kvLossy in the topology (CAUSEWAY_KV_LOSSY=on) at both ends, or give both workers types that hold each other's numbers`,
    );
  }
  const fixed = from.layers.some(({ window, entries, states }) => (window ?? entries ?? states) !== undefined);
  if (fixed && sent.dtype !== kept.dtype) return mismatch(`${names}: windows, entries and states travel in one type only`);
  const wanted = fixed ? undefined : wantedForm(terms);
  const weight = (form: KvWireForm) => from.layers.reduce((sum, layer) => sum + layerTokenBytes(layer, form), 0);
  const candidates = (lossless ? [sent, kept, { dtype: 'f32' } as const] : [kept, sent, { dtype: 'f32' } as const])
    .filter((form) => accepted.includes(form.dtype))
    .filter((form) => !lossless || holdsExactly(form, sent, from.layers))
    .filter((form) => lossless || form === kept || holdsExactly(form, sent, from.layers));
  if (wanted !== undefined && candidates.every((form) => weight(wanted) < weight(form))) {
    const reason = `${names} as ${wanted.dtype}: rounds, as kvWire wants, ${weight(wanted)} bytes a token`;
    return { form: wanted, lossless: holdsExactly(wanted, sent, from.layers) && lossless, reason };
  }
  const [first, ...others] = candidates;
  if (first === undefined)
    return mismatch(`${names}: the receiver takes ${accepted.join(', ') || 'nothing'}, none of which will do`);
  const form = others.reduce((best, other) => (weight(other) < weight(best) ? other : best), first);
  const how = lossless ? 'exact' : 'rounds, as the deployment allows';
  return { form, lossless, reason: `${names} as ${form.dtype}: ${how}, ${weight(form)} bytes a token` };
}

/** The form that the deployment wants; undefined where it wants none, or it isn't allowed, or heads are too narrow for it. */
function wantedForm({ from, to, accepted, lossy, rounded: dtype }: WireTerms): KvWireForm | undefined {
  if (dtype === undefined || !lossy || !accepted.includes(dtype)) return undefined;
  const split = from.storage.latent ?? to.storage.latent;
  const form: KvWireForm = { dtype, ...(hasFactors(dtype) && split !== undefined ? { latent: split } : {}) };
  return [from, to].some((end) => unconvertible(end, form) !== undefined) ? undefined : form;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}

function mismatch(message: string): never {
  return fail('failed_precondition', 'descriptor_mismatch', message);
}
