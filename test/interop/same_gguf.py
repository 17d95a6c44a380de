"""Compares the tensors of lowbit's GGUF files with those of llama.cpp's own quantizer, byte for byte.

Made with: gguf==0.19.0, node-llama-cpp@3.22.1 (for its libllama), the Node of this project
Run:       python same_gguf.py NODE_LLAMA_CPP MODEL OUT [MIX ...]

NODE_LLAMA_CPP is the folder where it is installed, MODEL a checkpoint, OUT a folder for the files.
lowbit writes the model as F32 and in each mix; libllama makes the same mix of the F32 file. Names,
types and bytes must be the same; the order of tensors and the metadata are not compared. Prints a
line for each mix and exits with 1 when one differs. The mixes' numbers are llama.h's `llama_ftype`.
"""

import ctypes
import glob
import os
import subprocess
import sys

from gguf import GGUFReader

MIXES = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11,
    "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
    "IQ4_NL": 25, "IQ4_XS": 30, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37,
}  # fmt: skip
LOWBIT = os.path.join(os.path.dirname(__file__), "..", "..", "dist", "cli", "main.js")


class Parameters(ctypes.Structure):
    """The start of `llama_model_quantize_params`; the rest keeps its defaults."""

    _fields_ = [("threads", ctypes.c_int32), ("ftype", ctypes.c_int), ("rest", ctypes.c_byte * 248)]


def library(folder):
    home = os.path.join(folder, "node_modules", "@node-llama-cpp", "linux-x64", "bins", "linux-x64")
    for name in sorted(glob.glob(os.path.join(home, "libggml-base*.so*"))):
        ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
    # The others are found beside the one that is loaded first.
    llama = ctypes.CDLL(glob.glob(os.path.join(home, "libllama.v*.so"))[0], ctypes.RTLD_GLOBAL)
    llama.llama_model_quantize_default_params.restype = Parameters
    # Without a log.
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.silent = silent
    llama.llama_backend_init()
    return llama


def convert(model, out, mix):
    if os.path.exists(out):
        os.remove(out)
    command = ["node", LOWBIT, "convert", model, "-o", out, "--scheme", mix, "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def differences(ours, theirs):
    theirs = {t.name: t for t in GGUFReader(theirs).tensors}
    ours = {t.name: t for t in GGUFReader(ours).tensors}
    odd = [name for name in ours.keys() ^ theirs.keys()]
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        if a.tensor_type != b.tensor_type or a.data.tobytes() != b.data.tobytes():
            odd.append(f"{name} ({a.tensor_type.name}, {b.tensor_type.name})")
    return len(ours), sorted(odd)


def main():
    folder, model, out, *mixes = sys.argv[1:]
    out = os.path.abspath(out)
    os.makedirs(out, exist_ok=True)
    llama = library(os.path.abspath(folder))
    floats = os.path.join(out, "f32.gguf")
    convert(model, floats, "F32")
    failed = False
    print("| mix | tensors | with other bytes |\n| --- | --- | --- |")
    for mix in mixes or MIXES:
        ours, theirs = (os.path.join(out, f"{who}-{mix}.gguf") for who in ("lowbit", "llama"))
        convert(model, ours, mix)
        parameters = llama.llama_model_quantize_default_params()
        parameters.ftype = MIXES[mix]
        source, target = floats.encode(), theirs.encode()
        if llama.llama_model_quantize(source, target, ctypes.byref(parameters)) != 0:
            sys.exit(f"libllama could not make {mix}")
        count, odd = differences(ours, theirs)
        failed |= bool(odd)
        print(f"| {mix} | {count} | {', '.join(odd) or 'none'} |", flush=True)
    sys.exit(failed)


main()
