"""Copies a GGUF file with every tensor as float32, dequantised by the Python package `gguf` (0.19.0).

    pip install gguf==0.19.0 && python widen.py IN.gguf OUT.gguf
"""

import sys

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize

reader = GGUFReader(sys.argv[1])
architecture = reader.get_field("general.architecture").contents()
writer = GGUFWriter(sys.argv[2], architecture)
for key, field in reader.fields.items():
    if key.startswith("GGUF.") or key == "general.architecture":
        continue
    value = 0 if key == "general.file_type" else field.contents()
    kind, *inner = field.types
    writer.add_key_value(key, value, kind, inner[0] if kind == GGUFValueType.ARRAY else None)
for tensor in reader.tensors:
    shape = tuple(int(dim) for dim in reversed(tensor.shape))
    writer.add_tensor(tensor.name, dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
