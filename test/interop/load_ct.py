"""Loads a compressed-tensors checkpoint in transformers and compares its logits with lowbit's.

Made with: compressed-tensors==0.19.0 transformers==5.17.0 torch==2.14.0 safetensors==0.8.0
Run:       python test/interop/load_ct.py CHECKPOINT LOGITS [--bound 1e-3]

LOGITS is a safetensors file with `<prompt>.tokens` I64 [n] and `<prompt>.logits` F32 [n, vocabulary]
for every prompt, as `logits.ts` beside this file writes it. Exits with 1 when a logit is further off
than the bound or a weight of the checkpoint was not used.
"""

import argparse
import sys

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("logits")
    parser.add_argument("--bound", type=float, default=1e-3)
    options = parser.parse_args()

    model, loading = AutoModelForCausalLM.from_pretrained(
        options.checkpoint, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    unused = sorted({*loading["missing_keys"], *loading["unexpected_keys"]})
    for name in unused:
        print(f"not matched: {name}")

    failed = bool(unused)
    print(f"{'prompt':12} {'tokens':>6} {'worst':>10} {'mean':>10} {'same top':>9}")
    with safe_open(options.logits, "pt") as file, torch.no_grad():
        prompts = sorted(key.removesuffix(".tokens") for key in file.keys() if key.endswith(".tokens"))
        for prompt in prompts:
            tokens = file.get_tensor(f"{prompt}.tokens").long()
            wanted = file.get_tensor(f"{prompt}.logits")
            found = model(tokens[None]).logits[0].float()
            off = (found - wanted).abs()
            top = (found.argmax(-1) == wanted.argmax(-1)).float().mean()
            failed |= not bool(off.max() <= options.bound)
            print(f"{prompt:12} {len(tokens):6} {off.max():10.2e} {off.mean():10.2e} {top:9.1%}")
    print("FAILED" if failed else f"all within {options.bound:g}")
    sys.exit(failed)


main()
