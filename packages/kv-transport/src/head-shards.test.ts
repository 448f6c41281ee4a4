/**
 * Heads dealt to arenas: n of a sender to m of a receiver in one transfer, between every two chip families, over a real server. Every
 * byte that arrives is compared with pages packed number by number, and some with those of the packer in Python.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ServiceError } from '@causeway/errors';
import { CHIP_NAMES, chipFamily, chipStorage } from '@causeway/chips';
import {
  arenaStorages,
  chooseWire,
  CodecPool,
  type ConvertJob,
  KV_DTYPES,
  type KvDescriptor,
  type KvStorage,
  type LayerGeometry,
  storageName,
} from '@causeway/kv';
import { type NumberOf, plainPages, roundedBy } from '@causeway/kv/internal';
import { eventually, startNats } from '@causeway/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { python } from './test-python.ts';
import { makeWorker, type TestWorker } from './test-workers.ts';

const FULL: LayerGeometry = { kind: 'full', kvHeads: 4, headDimK: 8, headDimV: 4 };
const LATENT: LayerGeometry = { kind: 'latent', rank: 16, ropeDim: 8 };
const LAYERS = [FULL, LATENT];
const TOKENS = 128;
const SHARDS = [1, 2, 4];
const never = new AbortController().signal;

const shardsOf = (count: number): KvStorage['shards'] => ({ count, index: 0, ...(count > 1 ? { all: true as const } : {}) });
const storageOf = (chip: string, count: number): KvStorage => ({
  ...chipStorage(chipFamily(chip), { layers: LAYERS }),
  shards: shardsOf(count),
});
const descriptorOf = (storage: KvStorage): KvDescriptor => ({ version: 1, layers: LAYERS, storage });
const blocksOf = ({ blockTokens }: KvStorage): number => TOKENS / blockTokens;

const numberOf: NumberOf = (section, token, head, dim) => {
  const mix = Math.imul(section * 7 + token * 131 + head * 17 + dim + 1, 0x9e3779b1) >>> 0;
  return Math.fround(Math.sin(mix) * 2 ** ((mix >>> 8) % 7));
};

const packed = new Map<string, Buffer[]>();

/** Pages of one arena: every layer packed by itself, one after the other. `what` names the numbers. */
function plain(storage: KvStorage, what: string, valueOf: (layer: LayerGeometry) => NumberOf): Buffer[] {
  const key = `${storageName(storage)} of ${what}`;
  const known = packed.get(key);
  if (known !== undefined) return known;
  const layers = LAYERS.map((layer) => plainPages(layer, storage, blocksOf(storage), valueOf(layer)));
  const pages = Array.from({ length: blocksOf(storage) }, (_, block) =>
    Buffer.concat(layers.map((own) => own[block] as Uint8Array)),
  );
  packed.set(key, pages);
  return pages;
}

/** A name of the numbers that a storage holds, whatever their places. */
const typeOf = ({ dtype, latent }: KvStorage): string => `${dtype} ${latent}`;

/** What the receiver's pages hold of the numbers in the end. */
function kept(from: KvStorage, to: KvStorage): (layer: LayerGeometry) => NumberOf {
  const { form } = chooseWire({ from: descriptorOf(from), to: descriptorOf(to), accepted: KV_DTYPES, lossy: true });
  return (layer) => roundedBy(layer, to, roundedBy(layer, form, roundedBy(layer, from, numberOf)));
}

let nats: Awaited<ReturnType<typeof startNats>>;
const workers = new Map<string, TestWorker>();

async function worker(role: string, storage: KvStorage, more: Parameters<typeof makeWorker>[0] | object = {}) {
  return makeWorker({
    servers: nats.url,
    workerId: `${role}-${storageName(storage)}`,
    codec: 'auto',
    lossy: true,
    budgetBytes: 1 << 20,
    descriptor: descriptorOf(storage),
    pages: 2 * blocksOf(storage),
    ...more,
  });
}

async function known(role: string, chip: string, count: number): Promise<TestWorker> {
  const key = `${role} ${chip} ${count}`;
  const found = workers.get(key) ?? (await worker(`${role}-${chip}`, storageOf(chip, count)));
  workers.set(key, found);
  return found;
}

beforeAll(async () => {
  nats = await startNats();
});
afterAll(async () => {
  for (const each of workers.values()) await each[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
});

/** One transfer; gives the pages of each of the receiver's arenas. */
async function transfer(sender: TestWorker, from: KvStorage, receiver: TestWorker, to: KvStorage): Promise<Buffer[][]> {
  using source = sender.pool.reserve(blocksOf(from)) ?? expect.fail('no pages to send');
  using target = receiver.pool.reserve(blocksOf(to)) ?? expect.fail('no pages to receive');
  for (const [arena, storage] of arenaStorages(from).entries()) {
    for (const [i, bytes] of plain(storage, typeOf(from), (layer) => roundedBy(layer, from, numberOf)).entries()) {
      sender.pool.bytes(source.pages[i] as number, arena).set(bytes);
    }
  }
  for (const arena of receiver.pool.arenas.keys()) for (const page of target.pages) receiver.pool.bytes(page, arena).fill(0xa5);
  const inbound = receiver.endpoint.receive({ pages: target, tokens: TOKENS, deadlineMs: 30_000, signal: never });
  const outbound = sender.endpoint.send({ ticket: inbound.ticket, pages: source, signal: never });
  outbound.offer(TOKENS / 2);
  await Promise.all([outbound.finish({}), inbound.committed]);
  await eventually(() => (source.holds === 0 && target.holds === 0) || undefined, { what: 'nobody holding pages' });
  return receiver.pool.arenas.map((_, arena) => target.pages.map((page) => Buffer.from(receiver.pool.bytes(page, arena))));
}

describe.each(CHIP_NAMES)('arenas of %s', (source) => {
  test.each(CHIP_NAMES)('to those of %s: 1, 2 or 4 to 1, 2 or 4', async (target) => {
    for (const n of SHARDS)
      for (const m of SHARDS) {
        const [from, to] = [storageOf(source, n), storageOf(target, m)];
        const found = await transfer(await known('p', source, n), from, await known('d', target, m), to);
        expect(found).toHaveLength(m);
        for (const [arena, storage] of arenaStorages(to).entries()) {
          const wanted = plain(storage, `${typeOf(from)} to ${typeOf(to)}`, kept(from, to));
          for (const [i, page] of wanted.entries()) {
            expect(Buffer.compare(found[arena]?.[i] as Buffer, page), `${n} to ${m}, arena ${arena}, page ${i}`).toBe(0);
          }
        }
      }
  });
});

const PACKER = fileURLToPath(new URL('../../../tests/wire/pack_pages.py', import.meta.url));

describe.runIf(python)('the packer in Python (python3)', () => {
  test.each(CHIP_NAMES)('packs what each of two arenas of %s holds, byte for byte', async (target) => {
    const folder = await mkdtemp(join(tmpdir(), 'head-shards-'));
    try {
      const [from, to] = [storageOf('nvidia', 4), storageOf(target, 2)];
      const found = await transfer(await known('p', 'nvidia', 4), from, await known('d', target, 2), to);
      for (const arena of [0, 1]) {
        // an arena is the pages of a model with its heads alone
        const layers = [{ ...FULL, kvHeads: 2 }, LATENT];
        const numbers: number[] = [];
        for (const [layer, sections] of [
          [
            FULL,
            [
              [2, 8],
              [2, 4],
            ],
          ],
          [LATENT, [[1, 24]]],
        ] as const) {
          const value = roundedBy(layer, from, numberOf);
          for (const [section, [heads, width]] of sections.entries())
            for (let token = 0; token < TOKENS; token++)
              for (let head = 0; head < heads; head++)
                for (let dim = 0; dim < width; dim++)
                  numbers.push(value(section, token, layer === FULL ? 2 * arena + head : 0, dim));
        }
        const [descriptor, input, output] = ['descriptor.json', 'numbers', 'pages'].map((name) => join(folder, name)) as [
          string,
          string,
          string,
        ];
        const storage = { ...to, shards: { count: 1, index: 0 } };
        await writeFile(descriptor, JSON.stringify({ layers, storage, tokens: TOKENS }));
        await writeFile(input, new Uint8Array(Float32Array.from(numbers).buffer));
        await promisify(execFile)('python3', [PACKER, descriptor, input, output]);
        const packed = await readFile(output);
        expectPages(found[arena] as Buffer[], packed);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

/** The packer leaves pages in wire order unpadded; those of an arena never are in wire order. */
function expectPages(found: readonly Buffer[], packed: Buffer): void {
  const pageBytes = (found[0] as Buffer).length;
  const own = packed.length / found.length;
  for (const [i, page] of found.entries()) {
    const wanted = packed.subarray(i * own, (i + 1) * own);
    if (own === pageBytes) expect(Buffer.compare(page, wanted)).toBe(0);
    else expect(page.subarray(0, own).equals(wanted)).toBe(true);
  }
}

/** Codec threads of which one arena's conversions fail, or never end before they are let. */
class SickCodecs extends CodecPool {
  /** Arenas are the first regions that an endpoint registers: this is the second one. */
  static readonly region = 2;
  /** How many conversions the sick arena was asked for. */
  asked = 0;
  readonly #ends: Promise<number>;

  constructor(ends: Promise<number>) {
    super();
    this.#ends = ends;
    ends.catch(() => undefined);
  }

  override convert(job: ConvertJob): Promise<number> {
    if (job.pageRegion !== SickCodecs.region) return super.convert(job);
    this.asked++;
    return this.#ends;
  }
}

const gone = new ServiceError('the arena is gone', { code: 'unavailable', reason: 'transfer_failed' });

describe('a transfer with a sick arena fails as a whole', () => {
  const [from, to] = [storageOf('nvidia', 4), storageOf('ascend', 2)];

  async function scene(sick: 'sender' | 'receiver', ends: Promise<number>) {
    const patience = new AbortController();
    const signalOf = (side: string) => (side === sick ? patience.signal : never);
    const codecs = new SickCodecs(ends);
    const own = (side: string) => (side === sick ? { codecs } : {});
    const stack = new AsyncDisposableStack();
    const sender = stack.use(await worker('sick-p', from, own('sender')));
    const receiver = stack.use(await worker('sick-d', to, own('receiver')));
    const source = sender.pool.reserve(blocksOf(from)) ?? expect.fail();
    const target = receiver.pool.reserve(blocksOf(to)) ?? expect.fail();
    const inbound = receiver.endpoint.receive({
      pages: target,
      tokens: TOKENS,
      deadlineMs: 30_000,
      signal: signalOf('receiver'),
    });
    const outbound = sender.endpoint.send({ ticket: inbound.ticket, pages: source, signal: signalOf('sender') });
    const free = () => {
      source[Symbol.dispose]();
      target[Symbol.dispose]();
      return eventually(
        () =>
          (sender.pool.freePages === sender.pool.totalPages && receiver.pool.freePages === receiver.pool.totalPages) || undefined,
        { what: 'all pages back' },
      );
    };
    return { codecs, patience, inbound, outbound, target, free, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  }

  test.each(['sender', 'receiver'] as const)('when it dies at the %s', async (sick) => {
    await using it = await scene(sick, Promise.reject(gone));
    await expect(it.outbound.finish({})).rejects.toThrow(/the arena is gone/);
    await expect(it.inbound.committed).rejects.toThrow(/the arena is gone/);
    expect(it.codecs.asked).toBeGreaterThan(0);
    expect(it.target.state).not.toBe('committed');
    await it.free();
  });

  test.each(['sender', 'receiver'] as const)(
    'when nobody waits for it any longer at the %s, and frees its pages only then',
    async (sick) => {
      const late = Promise.withResolvers<number>();
      await using it = await scene(sick, late.promise);
      const finished = it.outbound.finish({});
      finished.catch(() => undefined);
      await eventually(() => it.codecs.asked > 0 || undefined, { what: 'the late arena being asked' });
      it.patience.abort(new ServiceError('no more patience', { code: 'deadline_exceeded', reason: 'deadline' }));
      await eventually(() => it.outbound.failed.aborted || undefined, { what: 'the sender giving up', timeoutMs: 20_000 });
      it.target[Symbol.dispose]();
      // pages that a job still runs on stay away from others
      if (sick === 'receiver') expect(it.target.holds).toBeGreaterThan(0);
      late.resolve(0);
      await expect(finished).rejects.toThrow(/no more patience/);
      await expect(it.inbound.committed).rejects.toThrow(/no more patience/);
      await it.free();
    },
  );
});
