"""Writes gguf-blocks.json: random blocks of GGUF's types and what the Python package `gguf` (0.19.0) makes of them.

    pip install gguf==0.19.0 && python gguf-blocks.py > gguf-blocks.json
"""

import base64
import json

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Where the f16 fields of a block are.
TYPES = {
    "F16": [0], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}
# Largest and smallest finite numbers, a subnormal one, zeros, and common ones.
HALVES = [0x7BFF, 0xFBFF, 0x0001, 0x8001, 0x0000, 0x8000, 0x03FF, 0x2A66, 0xA8F6, 0x1C3D]

random = np.random.default_rng(4)
encode = lambda array: base64.b64encode(array.tobytes()).decode()
result = {}
for name, fields in TYPES.items():
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    count = {1: 64, 32: 12, 256: 4}[elements]
    blocks = random.integers(0, 256, (count, size), np.uint8)
    if name == "BF16":
        blocks[:, 1] &= 0xBF  # finite
    for at in fields:
        halves = random.choice(HALVES, count) if elements == 1 else random.permutation(np.resize(HALVES, max(count, 10)))[:count]
        blocks[:, at : at + 2] = halves.astype("<u2").view(np.uint8).reshape(count, 2)
    if elements == 256:  # one block of each as files have it, the others at the limits
        for at in fields:
            blocks[0, at : at + 2] = np.array([0x1C3D], "<u2").view(np.uint8)
    result[name] = {"blocks": encode(blocks), "values": encode(dequantize(blocks.reshape(-1), kind).astype("<f4"))}
print(json.dumps(result, indent=2))
