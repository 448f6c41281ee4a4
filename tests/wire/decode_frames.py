#!/usr/bin/env python3
"""Decodes recorded KV frames of codec `none` by docs/wire.md alone (Python's standard library only).

usage: decode_frames.py FRAMES [--page-bytes N]

FRAMES holds, again and again, a u32 little-endian length and a frame. Prints JSON: every header, the totals, and what the
manifest's digest must be. With --page-bytes, objects are whole pages of N bytes and each object's SHA-256 is printed too.
Exit status 1 when any frame breaks a rule of docs/wire.md.
"""
import argparse
import hashlib
import json
import struct
import sys

HEADER = struct.Struct("<4sBBH16sIIIB3sIIIIII")  # docs/wire.md, "Frame header"
CODECS = {1: "none", 2: "zstd", 3: "planes+zstd"}


def crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return table


TABLE = crc32c_table()


def crc32c(data):
    """CRC-32C (Castagnoli), reflected, initial and final value all ones."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def records(blob):
    position = 0
    while position < len(blob):
        (length,) = struct.unpack_from("<I", blob, position)
        position += 4
        if position + length > len(blob):
            raise ValueError("the file ends inside a frame")
        yield blob[position : position + length]
        position += length


def decode(frame, problems):
    if len(frame) < HEADER.size:
        raise ValueError(f"a frame of {len(frame)} bytes is shorter than its header")
    fields = HEADER.unpack_from(frame)
    magic, version, header_bytes, flags, transfer, epoch, obj, part, codec, zero3 = fields[:10]
    raw_bytes, body_bytes, body_crc, raw_crc, zero4, header_crc = fields[10:]
    body = frame[header_bytes:]
    for broken, what in [
        (magic != b"CWKV", "magic"),
        (version != 1, "version"),
        (header_bytes != 64, "header length"),
        (flags & ~1 != 0, "flags"),
        (zero3 != b"\0\0\0" or zero4 != 0, "reserved bytes"),
        (codec not in CODECS, "codec"),
        (body_bytes != len(body), "body length"),
        (crc32c(frame[:60]) != header_crc, "header CRC"),
        (crc32c(body) != body_crc, "body CRC"),
        (codec == 1 and (raw_bytes != body_bytes or raw_crc != body_crc), "raw size or CRC of codec none"),
    ]:
        if broken:
            problems.append(f"object {obj} part {part}: {what}")
    header = {
        "transfer": transfer.hex(), "epoch": epoch, "object": obj, "part": part, "codec": CODECS.get(codec, codec),
        "resent": bool(flags & 1), "rawBytes": raw_bytes, "bodyBytes": body_bytes, "bodyCrc": body_crc, "rawCrc": raw_crc,
    }
    return header, body


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames")
    parser.add_argument("--page-bytes", type=int, default=0)
    options = parser.parse_args()
    with open(options.frames, "rb") as file:
        blob = file.read()
    problems, headers, parts = [], [], {}
    for frame in records(blob):
        header, body = decode(frame, problems)
        headers.append(header)
        parts[(header["object"], header["part"])] = (header["rawCrc"], body)
    ordered = sorted(parts)
    digest = hashlib.sha256(b"".join(struct.pack("<I", parts[key][0]) for key in ordered))
    objects = {}
    for obj, part in ordered:
        objects.setdefault(obj, []).append(parts[(obj, part)][1])
    report = {
        "frames": len(headers),
        "parts": len(parts),
        "rawBytes": sum(len(body) for _, body in parts.values()),
        "frameBytes": len(blob) - 4 * len(headers),
        "manifestDigest": digest.hexdigest(),
        "transfers": sorted({header["transfer"] for header in headers}),
        "headers": headers,
        "problems": problems,
    }
    if options.page_bytes > 0:
        bodies = [b"".join(objects[obj]) for obj in sorted(objects)]
        report["pageSizesAgree"] = all(len(body) <= options.page_bytes for body in bodies)
        report["objectSha256"] = [hashlib.sha256(body).hexdigest() for body in bodies]
    json.dump(report, sys.stdout)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
