#!/usr/bin/env python3
"""Packs K and V into pages as chip families store them (docs/chips.md, "Pages"), with the standard library alone.

usage: pack_pages.py DESCRIPTOR.json NUMBERS PAGES

DESCRIPTOR.json  {"layers": [...], "storage": {...}, "tokens": N}, fields as in docs/chips.md
NUMBERS          f32, little-endian: for each layer for each of K, V (or the latent): [token][head][dimension]
PAGES            written: the pages of the tokens, one after another; what lies past the last token is zero
"""
import json
import struct
import sys

BITS = {"f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "int8": 8, "int4": 4}


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bf16(value):
    """The 16 bits of a number, to nearest, ties to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16


def bf16_value(bits):
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


F8 = [(b / 8) * 2.0**-6 if b < 8 else (1 + (b % 8) / 8) * 2.0 ** (b // 8 - 7) for b in range(127)]


def f8e4m3(value):
    """The byte nearest to a number; of two the even one."""
    magnitude = abs(value)
    best = min(range(127), key=lambda byte: (abs(F8[byte] - magnitude), byte % 2))
    sign = struct.unpack("<I", struct.pack("<f", value))[0] >> 31
    return best | (sign << 7)


def half_even(value):
    return round(value)  # Python's round is half to even


def codes(values, largest):
    """Whole numbers and their factor, which is a bf16 number."""
    magnitude = max([2.0**-100] + [abs(v) for v in values])
    factor = bf16_value(bf16(f32(magnitude / largest)))
    return [max(-largest, min(largest, half_even(f32(v / factor)))) for v in values], factor


def parts_of(layer, storage):
    """(section, heads, first dimension, width, element type) of what a layer keeps of a token."""
    dtype = storage["dtype"]
    if layer["kind"] == "full":
        heads = layer["kvHeads"]
        return [(0, heads, 0, layer["headDimK"], dtype), (1, heads, 0, layer["headDimV"], dtype)]
    rank, rope = layer["rank"], layer["ropeDim"]
    if storage.get("latent") != "split":
        return [(0, 1, 0, rank + rope, dtype)]
    return [(0, 1, 0, rank, dtype), (0, 1, rank, rope, "bf16" if dtype in ("int8", "int4") else dtype)]


def pack_part(part, storage, vector):
    """Bytes of the numbers, and the factors by place. `vector(section, token, head)` gives a head's numbers of a token."""
    section, heads, first, width, dtype = part
    layout, block = storage["layout"], storage["blockTokens"]
    line = 256 // BITS[dtype]
    row = heads * width
    count = block * ((row + line - 1) // line * line if layout == "NZ" else row)
    numbers = [0] * count
    factors = {}
    for t in range(block):
        for h in range(heads):
            values = vector(section, t, h)[first : first + width]
            if dtype in ("int8", "int4"):
                stored, factor = codes(values, 127 if dtype == "int8" else 7)
                factors[t * heads + h if layout == "NHD" else h * block + t] = factor
            elif dtype == "bf16":
                stored = [bf16(v) for v in values]
            elif dtype == "f16":
                stored = [struct.unpack("<H", struct.pack("<e", v))[0] for v in values]
            elif dtype == "f8e4m3":
                scale = storage.get("scale", 1)
                stored = [f8e4m3(f32(v / scale)) for v in values]
            else:
                stored = [struct.unpack("<I", struct.pack("<f", v))[0] for v in values]
            for d, number in enumerate(stored):
                if layout == "NHD":
                    place = (t * heads + h) * width + d
                elif layout == "HND":
                    place = (h * block + t) * width + d
                else:
                    column = h * width + d
                    place = (column // line * block + t) * line + column % line
                numbers[place] = number
    if dtype == "int4":
        packed = bytes((a & 15) | ((b & 15) << 4) for a, b in zip(numbers[::2], numbers[1::2]))
    else:
        packed = b"".join((n & (2 ** BITS[dtype] - 1)).to_bytes(BITS[dtype] // 8, "little") for n in numbers)
    return packed, [factors[place] for place in sorted(factors)]


def main(descriptor_path, numbers_path, pages_path):
    with open(descriptor_path, encoding="utf-8") as file:
        descriptor = json.load(file)
    layers, storage, tokens = descriptor["layers"], descriptor["storage"], descriptor["tokens"]
    with open(numbers_path, "rb") as file:
        data = file.read()
    block = storage["blockTokens"]
    # where each layer's K, V or latent begins, and how many heads of how many numbers a token has there
    sections, at = [], 0
    for layer in layers:
        shapes = (
            [(layer["kvHeads"], layer["headDimK"]), (layer["kvHeads"], layer["headDimV"])]
            if layer["kind"] == "full"
            else [(1, layer["rank"] + layer["ropeDim"])]
        )
        sections.append([])
        for heads, width in shapes:
            sections[-1].append((at, heads, width))
            at += tokens * heads * width * 4
    if at != len(data):
        sys.exit(f"{numbers_path} has {len(data)} bytes; {tokens} tokens take {at}")
    wire_order = storage["layout"] == "NHD" and storage.get("latent") is None and BITS[storage["dtype"]] >= 16
    with open(pages_path, "wb") as file:
        for first in range(0, tokens, block):
            for layer, places in zip(layers, sections):

                def vector(section, t, head):
                    start, heads, width = places[section]
                    if first + t >= tokens:
                        return [0.0] * width
                    offset = start + ((first + t) * heads + head) * width * 4
                    return list(struct.unpack_from(f"<{width}f", data, offset))

                packed = [pack_part(part, storage, vector) for part in parts_of(layer, storage)]
                page = b"".join(numbers for numbers, _ in packed)
                page += b"".join(struct.pack(f"<{len(f)}f", *f) for _, f in packed)
                file.write(page if wire_order else page.ljust(-(-len(page) // 64) * 64, b"\0"))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
