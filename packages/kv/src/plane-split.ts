/**
 * Byte planes of numbers: plane p holds byte p (little-endian) of every number. Exponents of KV are alike and gather in the
 * high planes, which compress; mantissas gather in the low ones, which don't. Little-endian machines only, as are the wire and
 * every platform that ONNX Runtime's package supports.
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
export function splitPlanes(raw: Uint8Array, planes: Uint8Array, elementBytes: 2 | 4): void {
  const planeBytes = raw.length / elementBytes;
  const whole = planeBytes >>> 2;
  const source = new Uint32Array(raw.buffer, raw.byteOffset, whole * elementBytes);
  const word = (plane: number) => new Uint32Array(planes.buffer, planes.byteOffset + planeOffset(plane, planeBytes), whole);
  if (elementBytes === 2) {
    const low = word(0);
    const high = word(1);
    for (let i = 0; i < whole; i++) {
      const a = source[2 * i] as number;
      const b = source[2 * i + 1] as number;
      low[i] = (a & 0xff) | ((a >>> 8) & 0xff00) | ((b & 0xff) << 16) | ((b & 0xff0000) << 8);
      high[i] = ((a >>> 8) & 0xff) | ((a >>> 16) & 0xff00) | ((b & 0xff00) << 8) | (b & 0xff000000);
    }
  } else {
    const [p0, p1, p2, p3] = [word(0), word(1), word(2), word(3)];
    for (let i = 0; i < whole; i++) {
      const a = source[4 * i] as number;
      const b = source[4 * i + 1] as number;
      const c = source[4 * i + 2] as number;
      const d = source[4 * i + 3] as number;
      p0[i] = (a & 0xff) | ((b & 0xff) << 8) | ((c & 0xff) << 16) | ((d & 0xff) << 24);
      p1[i] = ((a >>> 8) & 0xff) | (b & 0xff00) | ((c & 0xff00) << 8) | ((d & 0xff00) << 16);
      p2[i] = ((a >>> 16) & 0xff) | ((b >>> 8) & 0xff00) | (c & 0xff0000) | ((d & 0xff0000) << 8);
      p3[i] = (a >>> 24) | ((b >>> 16) & 0xff00) | ((c >>> 8) & 0xff0000) | (d & 0xff000000);
    }
  }
  for (let element = whole * 4; element < planeBytes; element++) {
    for (let plane = 0; plane < elementBytes; plane++) {
      planes[planeOffset(plane, planeBytes) + element] = raw[element * elementBytes + plane] as number;
    }
  }
}

/** Inverse of splitPlanes; same requirements. */
export function joinPlanes(planes: Uint8Array, raw: Uint8Array, elementBytes: 2 | 4): void {
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
      target[2 * i] = (l & 0xff) | ((h & 0xff) << 8) | ((l & 0xff00) << 8) | ((h & 0xff00) << 16);
      target[2 * i + 1] = ((l >>> 16) & 0xff) | ((h >>> 8) & 0xff00) | ((l >>> 8) & 0xff0000) | (h & 0xff000000);
    }
  } else {
    const [p0, p1, p2, p3] = [word(0), word(1), word(2), word(3)];
    for (let i = 0; i < whole; i++) {
      const w0 = p0[i] as number;
      const w1 = p1[i] as number;
      const w2 = p2[i] as number;
      const w3 = p3[i] as number;
      target[4 * i] = (w0 & 0xff) | ((w1 & 0xff) << 8) | ((w2 & 0xff) << 16) | ((w3 & 0xff) << 24);
      target[4 * i + 1] = ((w0 >>> 8) & 0xff) | (w1 & 0xff00) | ((w2 & 0xff00) << 8) | ((w3 & 0xff00) << 16);
      target[4 * i + 2] = ((w0 >>> 16) & 0xff) | ((w1 >>> 8) & 0xff00) | (w2 & 0xff0000) | ((w3 & 0xff0000) << 8);
      target[4 * i + 3] = (w0 >>> 24) | ((w1 >>> 16) & 0xff00) | ((w2 >>> 8) & 0xff0000) | (w3 & 0xff000000);
    }
  }
  for (let element = whole * 4; element < planeBytes; element++) {
    for (let plane = 0; plane < elementBytes; plane++) {
      raw[element * elementBytes + plane] = planes[planeOffset(plane, planeBytes) + element] as number;
    }
  }
}
