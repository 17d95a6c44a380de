"""Scales of the KV cache: against llm-compressor's, and what rounding with them gives in transformers.

Made with: llmcompressor==0.14.0.1 compressed-tensors==0.19.0 transformers==5.17.0 torch==2.14.0
Run:       python test/interop/kv_cache.py MODEL TEXT FOLDER [--record FILE]

FOLDER gets a calibration set of TEXT, and for each scheme a checkpoint of lowbit (RTN w4g128 and scales
of the cache in F32), the floats that it stands for, and lowbit's logits with keys and values rounded.
For each scheme:

scales     largest relative difference to llm-compressor's scales (observer static_minmax) for the same
           tokens, on the floats of the checkpoint: what lowbit looks at is the quantized model
original   the same to llm-compressor's scales in its own run of W4A16, which looks at keys and values
           before weights are rounded; for information
average    the same on the floats of the checkpoint with its default observer, a moving average of the
           ranges of samples; for information
logits     largest difference of a logit between lowbit and transformers with compressed-tensors, both
           with keys and values rounded by the checkpoint's scales, and the mean KL between them
cost       mean KL of lowbit's logits to those of the same weights with the cache as it is

A row is right when transformers takes every tensor, scales agree to 1e-5, the mean KL between the two is
at most 1e-4 and at most a tenth of the cost: a key between two steps falls to either side by the order of
a sum. Exits with 1 when a row is wrong.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from compressed_tensors.quantization import QuantizationArgs
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
CLI = HERE.parent.parent / "ts/cli/main.ts"
FIXTURE = HERE.parent / "fixtures/novels-4m-reference.safetensors"
SAMPLES, LENGTH = 32, 128
SCHEMES = [("fp8", "float", "tensor"), ("fp8-head", "float", "attn_head"), ("int8", "int", "tensor"), ("int8-head", "int", "attn_head")]


def call(*words):
    done = subprocess.run(["node", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed")


def scales_of(state):
    return {name: t.float() for name, t in state.items() if name.endswith((".k_scale", ".v_scale"))}


def farthest(ours, theirs):
    assert ours.keys() == theirs.keys() and ours, "the same scales"
    assert all(ours[n].shape == theirs[n].shape for n in ours), "of the same shapes"
    return max(float(((ours[n] - theirs[n]).abs() / theirs[n]).max()) for n in ours)


def peer(model, tokens, kind, strategy, observer="static_minmax", **scheme):
    """llm-compressor's scales for these tokens."""
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    cache = QuantizationArgs(num_bits=8, type=kind, strategy=strategy, dynamic=False, symmetric=True, observer=observer)
    recipe = QuantizationModifier(targets="Linear", ignore=["lm_head"], kv_cache_scheme=cache, **scheme)
    rows = {"input_ids": tokens, "attention_mask": [[1] * len(t) for t in tokens]}
    oneshot(
        model=loaded,
        dataset=Dataset.from_dict(rows),
        recipe=recipe,
        num_calibration_samples=len(tokens),
        max_seq_length=LENGTH,
        shuffle_calibration_samples=False,
    )
    return scales_of(loaded.state_dict())


def divergence(wanted, found):
    p, q = torch.log_softmax(wanted.double(), -1), torch.log_softmax(found.double(), -1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def loaded_with_scales(checkpoint):
    model, loading = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    strange = sorted({*loading["missing_keys"], *loading["unexpected_keys"]})
    for name in strange:
        print(f"not matched: {name}")
    return model, not strange


def row(options, tokens, scheme, kind, strategy):
    out = options.folder / scheme
    words = ["--method", "rtn", "--scheme", "w4g128", "--kv-cache", scheme, "--scale-dtype", "F32"]
    text = ["--calibration", options.folder / "set.jsonl", "--samples", SAMPLES, "--length", LENGTH]
    call(CLI, "quantize", options.model, "-o", out, "--force", *words, *text)
    floats = out.with_name(f"{scheme}-floats")
    call(CLI, "convert", out, "-o", floats, "--force", "--format", "float", "--dtype", "f32")
    rounded, plain = out.with_suffix(".logits"), out.with_suffix(".plain")
    call(HERE / "logits.ts", out, rounded, FIXTURE, scheme.removesuffix("-head"))
    call(HERE / "logits.ts", out, plain, FIXTURE)

    ours = scales_of(load_file(out / "model.safetensors"))
    far = farthest(ours, peer(floats, tokens, kind, strategy))
    original = farthest(ours, peer(options.model, tokens, kind, strategy, scheme="W4A16"))
    average = farthest(ours, peer(floats, tokens, kind, strategy, observer="minmax"))
    model, taken = loaded_with_scales(out)
    assert farthest(scales_of(model.state_dict()), ours) == 0, "transformers holds the checkpoint's scales"
    rounded, plain = load_file(rounded), load_file(plain)
    worst, between, cost, count = 0.0, 0.0, 0.0, 0
    with torch.no_grad():
        for prompt in sorted(n.removesuffix(".tokens") for n in rounded if n.endswith(".tokens")):
            found = model(rounded[f"{prompt}.tokens"][None]).logits[0]
            wanted = rounded[f"{prompt}.logits"]
            worst = max(worst, float((found - wanted).abs().max()))
            between += divergence(wanted, found)
            cost += divergence(plain[f"{prompt}.logits"], wanted)
            count += 1
    between, cost = between / count, cost / count
    right = taken and far <= 1e-5 and between <= 1e-4 and between <= cost / 10
    return [scheme, f"{far:.0e}", f"{original:.1%}", f"{average:.1%}", f"{worst:.1e}", f"{between:.0e}", f"{cost:.1e}", "ok" if right else "off"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "text", "folder"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = options.folder / "set.jsonl"
    size = ["--samples", SAMPLES, "--length", LENGTH]
    call(CLI, "calibrate", options.text, "--model", options.model, "-o", chosen, "--force", *size)
    tokens = [json.loads(line)["tokens"] for line in chosen.read_text().splitlines()]
    rows = [row(options, tokens, *scheme) for scheme in SCHEMES]
    head = ["scheme", "scales", "original", "average", "worst logit", "mean KL", "cost", "verdict"]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    print(table)
    if options.record:
        options.record.write_text(table + "\n")
    sys.exit(any(r[-1] != "ok" for r in rows))


main()
