/**
 * Byte planes of numbers. Every number is first rotated left by one bit, which moves the sign to the lowest bit and leaves the
 * exponent of f32 and bf16 alone in the highest byte; then plane p takes byte p (little-endian) of every number. Exponents of KV
 * are alike and compress; signs and mantissas don't. (SmolLM2's KV in bf16, pages of 16 tokens: ratio 1.462 with the rotation, 1.453 without.)
 * Little-endian machines only, as are the wire and every platform that ONNX Runtime's package supports.
 */

/** Offset of plane `plane` in a plane buffer: planes are 4-byte aligned so that words can be moved. */
export function planeOffset(plane: number, planeBytes: number): number {
  return plane * ((planeBytes + 3) & ~3);
}

/** Bytes that a plane buffer needs for `rawBytes` bytes of `elementBytes`-byte numbers. */
export function planeBufferBytes(rawBytes: number, elementBytes: number): number {
  return planeOffset(elementBytes, rawBytes / elementBytes);
}

/**
 * Splits `raw` into planes.
 * @param raw numbers, a multiple of `elementBytes` long; its byteOffset is a multiple of 4
 * @param planes at least planeBufferBytes long, byteOffset a multiple of 4
 */
export function splitPlanes(raw: Uint8Array, planes: Uint8Array, elementBytes: 1 | 2 | 4): void {
  if (elementBytes === 1) return planes.set(raw);
  const planeBytes = raw.length / elementBytes;
  const whole = planeBytes >>> 2;
  const source = new Uint32Array(raw.buffer, raw.byteOffset, whole * elementBytes);
  const word = (plane: number) => new Uint32Array(planes.buffer, planes.byteOffset + planeOffset(plane, planeBytes), whole);
  if (elementBytes === 2) {
    const low = word(0);
    const high = word(1);
    for (let i = 0; i < whole; i++) {
      const a = rotateHalves(source[2 * i] as number);
      const b = rotateHalves(source[2 * i + 1] as number);
      low[i] = (a & 0xff) | ((a >>> 8) & 0xff00) | ((b & 0xff) << 16) | ((b & 0xff0000) << 8);
      high[i] = ((a >>> 8) & 0xff) | ((a >>> 16) & 0xff00) | ((b & 0xff00) << 8) | (b & 0xff000000);
    }
  } else {
    const [p0, p1, p2, p3] = [word(0), word(1), word(2), word(3)];
    for (let i = 0; i < whole; i++) {
      const a = rotateWord(source[4 * i] as number);
      const b = rotateWord(source[4 * i + 1] as number);
      const c = rotateWord(source[4 * i + 2] as number);
      const d = rotateWord(source[4 * i + 3] as number);
      p0[i] = (a & 0xff) | ((b & 0xff) << 8) | ((c & 0xff) << 16) | ((d & 0xff) << 24);
      p1[i] = ((a >>> 8) & 0xff) | (b & 0xff00) | ((c & 0xff00) << 8) | ((d & 0xff00) << 16);
      p2[i] = ((a >>> 16) & 0xff) | ((b >>> 8) & 0xff00) | (c & 0xff0000) | ((d & 0xff0000) << 8);
      p3[i] = (a >>> 24) | ((b >>> 16) & 0xff00) | ((c >>> 8) & 0xff0000) | (d & 0xff000000);
    }
  }
  for (let element = whole * 4; element < planeBytes; element++) {
    for (let plane = 0; plane < elementBytes; plane++) {
      const below = raw[element * elementBytes + ((plane + elementBytes - 1) % elementBytes)] as number;
      const byte = raw[element * elementBytes + plane] as number;
      planes[planeOffset(plane, planeBytes) + element] = (byte << 1) | (below >>> 7);
    }
  }
}

/** Inverse of splitPlanes; same requirements. */
export function joinPlanes(planes: Uint8Array, raw: Uint8Array, elementBytes: 1 | 2 | 4): void {
  if (elementBytes === 1) return raw.set(planes.subarray(0, raw.length));
  const planeBytes = raw.length / elementBytes;
  const whole = planeBytes >>> 2;
  const target = new Uint32Array(raw.buffer, raw.byteOffset, whole * elementBytes);
  const word = (plane: number) => new Uint32Array(planes.buffer, planes.byteOffset + planeOffset(plane, planeBytes), whole);
  if (elementBytes === 2) {
    const low = word(0);
    const high = word(1);
    for (let i = 0; i < whole; i++) {
      const l = low[i] as number;
      const h = high[i] as number;
      target[2 * i] = unrotateHalves((l & 0xff) | ((h & 0xff) << 8) | ((l & 0xff00) << 8) | ((h & 0xff00) << 16));
      target[2 * i + 1] = unrotateHalves(((l >>> 16) & 0xff) | ((h >>> 8) & 0xff00) | ((l >>> 8) & 0xff0000) | (h & 0xff000000));
    }
  } else {
    const [p0, p1, p2, p3] = [word(0), word(1), word(2), word(3)];
    for (let i = 0; i < whole; i++) {
      const w0 = p0[i] as number;
      const w1 = p1[i] as number;
      const w2 = p2[i] as number;
      const w3 = p3[i] as number;
      target[4 * i] = unrotateWord((w0 & 0xff) | ((w1 & 0xff) << 8) | ((w2 & 0xff) << 16) | ((w3 & 0xff) << 24));
      target[4 * i + 1] = unrotateWord(((w0 >>> 8) & 0xff) | (w1 & 0xff00) | ((w2 & 0xff00) << 8) | ((w3 & 0xff00) << 16));
      target[4 * i + 2] = unrotateWord(((w0 >>> 16) & 0xff) | ((w1 >>> 8) & 0xff00) | (w2 & 0xff0000) | ((w3 & 0xff0000) << 8));
      target[4 * i + 3] = unrotateWord((w0 >>> 24) | ((w1 >>> 16) & 0xff00) | ((w2 >>> 8) & 0xff0000) | (w3 & 0xff000000));
    }
  }
  for (let element = whole * 4; element < planeBytes; element++) {
    for (let plane = 0; plane < elementBytes; plane++) {
      const above = planes[planeOffset((plane + 1) % elementBytes, planeBytes) + element] as number;
      const byte = planes[planeOffset(plane, planeBytes) + element] as number;
      raw[element * elementBytes + plane] = (byte >>> 1) | (above << 7);
    }
  }
}

/** Both 16-bit halves of a word, rotated left by one bit each. */
function rotateHalves(word: number): number {
  return ((word << 1) & 0xfffefffe) | ((word >>> 15) & 0x00010001);
}

function unrotateHalves(word: number): number {
  return ((word >>> 1) & 0x7fff7fff) | ((word << 15) & 0x80008000);
}

function rotateWord(word: number): number {
  return (word << 1) | (word >>> 31);
}

function unrotateWord(word: number): number {
  return (word >>> 1) | (word << 31);
}
