/** A shared library whose first instruction is none: whoever loads it dies. ELF-64 for this processor, made by hand so that no compiler is needed. */

const HEADER = 64;
const SEGMENT = 56;
const PAGE = 4096;
const CODE = 0x200;
const DYNAMIC = 0x300;
const SIZE = 0x400;
/** Machine, and an instruction that it refuses. */
const MACHINES: Readonly<Record<string, { machine: number; code: readonly number[] }>> = {
  x64: { machine: 62, code: [0x0f, 0x0b] },
  arm64: { machine: 183, code: [0, 0, 0, 0] },
};
/** Tags of the dynamic section: where strings, symbols and the first function are. */
const [DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_INIT] = [5, 6, 10, 11, 12];
const [PT_LOAD, PT_DYNAMIC] = [1, 2];
const [READ, WRITE, EXECUTE] = [4, 2, 1];
const EMPTY_TABLES = 0x280;

/** Bytes of the library. @throws Error on other processors */
export function crashingLibrary(arch: string = process.arch): Uint8Array {
  const target = MACHINES[arch];
  if (target === undefined) throw new Error(`no crashing library for ${arch}`);
  const bytes = Buffer.alloc(SIZE);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeUInt16LE(3, 16); // a shared object
  bytes.writeUInt16LE(target.machine, 18);
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BigInt(HEADER), 32);
  bytes.writeUInt16LE(HEADER, 52);
  bytes.writeUInt16LE(SEGMENT, 54);
  bytes.writeUInt16LE(2, 56);
  const segment = (index: number, type: number, flags: number, at: number, size: number, align: number): void => {
    const start = HEADER + index * SEGMENT;
    bytes.writeUInt32LE(type, start);
    bytes.writeUInt32LE(flags, start + 4);
    for (const [i, value] of [at, at, at, size, size, align].entries()) bytes.writeBigUInt64LE(BigInt(value), start + 8 + 8 * i);
  };
  segment(0, PT_LOAD, READ + WRITE + EXECUTE, 0, SIZE, PAGE);
  bytes.set(target.code, CODE);
  const tags = [
    [DT_STRTAB, EMPTY_TABLES],
    [DT_SYMTAB, EMPTY_TABLES],
    [DT_STRSZ, 1],
    [DT_SYMENT, 24],
    [DT_INIT, CODE],
    [0, 0],
  ];
  for (const [i, [tag = 0, value = 0]] of tags.entries()) {
    bytes.writeBigUInt64LE(BigInt(tag), DYNAMIC + 16 * i);
    bytes.writeBigUInt64LE(BigInt(value), DYNAMIC + 16 * i + 8);
  }
  segment(1, PT_DYNAMIC, READ + WRITE, DYNAMIC, 16 * tags.length, 8);
  return bytes;
}
