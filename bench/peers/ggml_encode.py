"""Times ggml's encoders on the rows of `bench_gguf`, in the same run, and compares the bytes.

Needs: numpy, and ggml as a shared library, for instance of the source package of llama-cpp-python:
       ggml-quants.c, ggml.c and what they need, gcc -O3 -ffp-contract=off -shared.
Run:   cargo build --release -p lowbit --example bench_gguf
       python bench/peers/ggml_encode.py path/to/libggml.so target/…/release/examples/bench_gguf
"""

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

IDS = {"Q4_0": 2, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ4_XS": 23}
REPEATS = 3


def library(path):
    lib = ctypes.CDLL(path)
    lib.ggml_row_size.restype = ctypes.c_size_t
    lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return lib


def encode(lib, ty, values, importance):
    rows, cols = values.shape
    out = np.zeros(rows * lib.ggml_row_size(ty, cols), np.uint8)
    pointer = None if importance is None else importance.ctypes.data
    start = time.perf_counter()
    lib.ggml_quantize_chunk(ty, values.ctypes.data, out.ctypes.data, 0, rows, cols, pointer)
    return out, time.perf_counter() - start


def main():
    lib, program = library(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, folder, *sys.argv[3:]], check=True, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        importance = np.fromfile(f"{folder}/importance.f32", np.float32)
        values = np.fromfile(f"{folder}/rows.f32", np.float32).reshape(-1, importance.size)
        print(f"{'type':8}{'kind':10}{'ggml Mv/s':>10}  ours, times ggml's speed")
        for name in dict.fromkeys(line["type"] for line in lines):
            for kind in ("plain", "weighted"):
                weights = importance if kind == "weighted" else None
                runs = [encode(lib, IDS[name], values, weights) for _ in range(REPEATS)]
                equal = np.array_equal(runs[0][0], np.fromfile(Path(folder, f"{name}.{kind}"), np.uint8))
                theirs = values.size / min(seconds for _, seconds in runs) / 1e6
                ours = [line for line in lines if (line["type"], line["kind"]) == (name, kind)]
                ratios = "  ".join(f"{line['isa']} {line['mvalues_per_s'] / theirs:.2f}" for line in ours)
                print(f"{name:8}{kind:10}{theirs:10.2f}  {ratios}  bytes {'equal' if equal else 'DIFFER'}")


main()
