"""safetensors files with numpy and nothing else (the peers of this folder run where no such package is installed).

A file is: u64 little-endian header length, a JSON object {name: {dtype, shape, data_offsets}}, then the raw bytes.
`__metadata__` holds strings only.  bench/ and data/ scripts are the only users; the C program has its own reader.
"""
import json
import os
import struct

import numpy as np

_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
           "U8": "u1", "BOOL": "?"}
_NAMES = {np.dtype(v).newbyteorder("<"): k for k, v in _DTYPES.items()}


def load(path):
    """Return ({name: numpy array}, {metadata key: string})."""
    with open(path, "rb") as f:
        raw = f.read()
    (n,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + n].decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        flat = np.frombuffer(raw[8 + n + begin:8 + n + end], dtype=_DTYPES[t["dtype"]])
        tensors[name] = flat.reshape(t["shape"]).copy()
    return tensors, metadata


def save(path, tensors, metadata=None):
    """Write arrays widest type first, so that every tensor is aligned to its own size; temporary name, then rename."""
    arrays = {k: np.asarray(v) for k, v in tensors.items()}  # ascontiguousarray would turn [] into [1]
    order = sorted(arrays, key=lambda k: -arrays[k].itemsize)  # stable: keeps the given order inside one width
    header = {"__metadata__": {k: str(v) for k, v in metadata.items()}} if metadata else {}
    at = 0
    for name in order:
        a = arrays[name]
        header[name] = {"dtype": _NAMES[a.dtype.newbyteorder("<")], "shape": list(a.shape),
                        "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    temporary = f"{path}.tmp{os.getpid()}"
    with open(temporary, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            f.write(arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False).tobytes())
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
