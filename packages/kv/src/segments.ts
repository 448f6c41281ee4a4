/**
 * Where the bytes of a tokens object lie in its pages.
 *
 * Wire form of tokens [firstToken, firstToken + tokenCount) of layers [firstLayer, firstLayer + layerCount): for each layer,
 * for each section (K then V, or the latent) token after token, [head][dimension] each; nothing between them.
 */
import { fail } from '@causeway/errors';
import { DTYPE_BYTES, type KvDescriptor, layerSections, layerTokenBytes } from './descriptor.ts';

/** Which tokens of which layers an object holds. */
export interface TokensRange {
  firstLayer: number;
  layerCount: number;
  firstToken: number;
  tokenCount: number;
}

/** `length` bytes at byte `offset` of the page that is `page`-th of its set (not its index in the pool). */
export interface Segment {
  page: number;
  offset: number;
  length: number;
}

/** Bytes of a tokens object on the wire (before any codec). */
export function rangeBytes(descriptor: KvDescriptor, range: TokensRange): number {
  let perToken = 0;
  for (let layer = range.firstLayer; layer < range.firstLayer + range.layerCount; layer++) {
    perToken += layerTokenBytes(layerAt(descriptor, layer), descriptor.storage.dtype);
  }
  return perToken * range.tokenCount;
}

/**
 * The byte runs of a tokens object in wire order; runs that touch are joined, so a whole page is one run.
 * @throws ServiceError `malformed_frame` when the range is empty, negative or outside the descriptor's layers.
 */
export function segments(descriptor: KvDescriptor, range: TokensRange): Segment[] {
  checkRange(descriptor, range);
  const { blockTokens, dtype } = descriptor.storage;
  const lastToken = range.firstToken + range.tokenCount;
  const runs: Segment[] = [];
  let sectionStart = 0;
  for (let layer = 0; layer < range.firstLayer; layer++) {
    sectionStart += layerTokenBytes(layerAt(descriptor, layer), dtype) * blockTokens;
  }
  for (let layer = range.firstLayer; layer < range.firstLayer + range.layerCount; layer++) {
    for (const section of layerSections(layerAt(descriptor, layer))) {
      const tokenSize = section.width * DTYPE_BYTES[dtype];
      for (let token = range.firstToken; token < lastToken; ) {
        const page = Math.floor(token / blockTokens);
        const end = Math.min(lastToken, (page + 1) * blockTokens);
        append(runs, {
          page,
          offset: sectionStart + (token - page * blockTokens) * tokenSize,
          length: (end - token) * tokenSize,
        });
        token = end;
      }
      sectionStart += tokenSize * blockTokens;
    }
  }
  return runs;
}

/** The part [start, start + length) of a list of runs, as runs. Bytes past the end are left out. */
export function sliceSegments(runs: readonly Segment[], start: number, length: number): Segment[] {
  const sliced: Segment[] = [];
  const end = start + length;
  let position = 0;
  for (const run of runs) {
    const from = Math.max(start, position);
    const to = Math.min(end, position + run.length);
    if (from < to) sliced.push({ page: run.page, offset: run.offset + (from - position), length: to - from });
    position += run.length;
    if (position >= end) break;
  }
  return sliced;
}

/** @throws ServiceError `malformed_frame` naming what is wrong with the range. */
export function checkRange(descriptor: KvDescriptor, range: TokensRange): void {
  for (const [name, value, least] of [
    ['firstLayer', range.firstLayer, 0],
    ['layerCount', range.layerCount, 1],
    ['firstToken', range.firstToken, 0],
    ['tokenCount', range.tokenCount, 1],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least || value > 0x7fff_ffff) {
      fail('invalid_argument', 'malformed_frame', `tokens object: ${name} is ${value}`);
    }
  }
  if (range.firstLayer + range.layerCount > descriptor.layers.length) {
    fail(
      'invalid_argument',
      'malformed_frame',
      `tokens object: layers ${range.firstLayer}..${range.firstLayer + range.layerCount} of a model with ${descriptor.layers.length}`,
    );
  }
}

function append(runs: Segment[], run: Segment): void {
  const last = runs.at(-1);
  if (last !== undefined && last.page === run.page && last.offset + last.length === run.offset) last.length += run.length;
  else runs.push(run);
}

function layerAt(descriptor: KvDescriptor, layer: number) {
  const geometry = descriptor.layers[layer];
  if (geometry === undefined) fail('invalid_argument', 'malformed_frame', `layer ${layer} is not in the descriptor`);
  return geometry;
}
