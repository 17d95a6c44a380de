"""Writes a model in every layout with lowbit, loads each in the tool it is for, and compares logits.

Made with: transformers==5.17.0 compressed-tensors==0.19.0 bitsandbytes==0.50.2 torch==2.14.0
           gptqmodel==7.7.0 optimum==2.3.0 safetensors==0.8.0
Run:       python test/interop/load_layouts.py MODEL FOLDER [--only WORD] [--record FILE]

FOLDER gets the checkpoints and lowbit's f32 logits; `node` must strip types. "read by" says what read a
checkpoint:

transformers  the tool itself on the CPU, weights widened to f32
weights       the same with the rounding of inputs taken out of config.json, for both
gptqmodel     the package's own loader, which knows `dynamic`
hqq           the package's own layer, whose weights are put into the original model
definition    the arithmetic of the layout's definition (definitions.py), put into the original model

A row is right when no logit is further off than 1e-3. Where inputs are rounded, a value that lies
between two steps falls to either side by the order of a sum, in the tool's own f32 and f64 too (0.12
there for w8a8), so such a row is right when the mean KL is at most 1e-3 and 98 % of the tokens have the
same top; its weights have a row of their own, and the rounding is compared bit for bit by
crates/lowbit/tests/layouts.rs. Exits with 1 when a row is wrong or a weight was not used.

compressed-tensors restores FP4 in bfloat16 whatever type is asked for. Where inputs are in 4 bits too
that alone moves logits by a mean KL of 1e-2, as multiplying each weight by 1 ± 1e-3 does (1e-7: 1e-13),
so it is told f32 here; the model then agrees with the definition to the last bit.
"""

import argparse
import functools
import json
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import definitions
from layout_rows import ROWS, TOOL, WEIGHTS

HERE = Path(__file__).parent


def inputs_are_rounded(name, how):
    return how != WEIGHTS and re.search(r"a[48]", name) is not None


def call(*words):
    done = subprocess.run(["node", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line]
        raise RuntimeError(lines[0] if lines else "failed")


def with_plain_inputs(checkpoint):
    """A copy of a checkpoint whose config says nothing of its inputs."""
    out = checkpoint.with_name(checkpoint.name + "-weights")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(checkpoint, out)
    config = json.loads((out / "config.json").read_text())
    for group in config["quantization_config"]["config_groups"].values():
        group["input_activations"] = None
    (out / "config.json").write_text(json.dumps(config))
    return out


def written(model, folder, name, options, how):
    """The checkpoint and lowbit's logits of it, made unless they are there."""
    out = folder / re.sub(r"\W+", "-", name)
    if not out.exists():
        method = [] if "--method" in options else ["--method", "rtn"]
        call(HERE.parent.parent / "ts/cli/main.ts", "quantize", model, "-o", out, "--force", *method, *options)
    if how == WEIGHTS:
        out = with_plain_inputs(out)
    logits = out.with_suffix(".logits")
    if not logits.exists() or how == WEIGHTS:
        call(HERE / "logits.ts", out, logits)
    return out, logits


def with_gptqmodel(checkpoint):
    from gptqmodel import BACKEND, GPTQModel

    return GPTQModel.load(str(checkpoint), backend=BACKEND.TORCH, device="cpu", dtype=torch.bfloat16).model


def restore_fp4_in_f32():
    from compressed_tensors.compressors.nvfp4 import base, helpers

    base.unpack_fp4_from_uint8 = functools.partial(helpers.unpack_fp4_from_uint8, dtype=torch.float32)


def with_tool(checkpoint):
    config = config_of(checkpoint)
    if "fp4" in config.get("format", ""):
        restore_fp4_in_f32()
    model, loading = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    unused = sorted({*loading["missing_keys"], *loading["unexpected_keys"]})
    if unused:
        raise RuntimeError(f"not matched: {unused[0]} and {len(unused) - 1} more")
    if config.get("load_in_8bit"):
        # Its CPU kernel rounds inputs to 8 bits, which lowbit's f32 does not.
        model = model.dequantize(torch.float32)
    for module in model.modules():
        if hasattr(module, "compute_dtype") and hasattr(module.weight, "quant_state"):
            # bitsandbytes multiplies in the type that the config names unless told otherwise.
            module.compute_dtype = module.weight.quant_state.dtype = torch.float32
            module.compute_type_is_set, module.support_avx512bf16_for_cpu = True, False
    return model


def config_of(checkpoint):
    return json.loads((checkpoint / "config.json").read_text())["quantization_config"]


def method_of(config):
    return config["format"] if config["quant_method"] == "compressed-tensors" else config["quant_method"]


def rounding(config, parts):
    """Rounding of a module's inputs, if its layout has any."""
    if "input_global_scale" in parts:
        return definitions.nvfp4_inputs(parts["input_global_scale"].float())
    if config["quant_method"] != "fp8":
        return None
    scale = parts.get("input_scale")
    return definitions.fp8_inputs(config, None if scale is None else scale.float())


def own_bits(config, module):
    rules = (config.get("dynamic") or {}).items()
    return next((own["bits"] for rule, own in rules if rule[0] == "+" and re.match(rule[2:], module)), None)


def dense_by(how, config, module, parts):
    method = method_of(config)
    if how == "hqq":
        from hqq.core.quantize import HQQLinear

        layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu")
        layer.load_state_dict({k: v.clone() for k, v in parts.items()})
        layer.meta = {k: v.float() if k in ("scale", "zero") else v for k, v in layer.meta.items()}
        layer.meta["compute_dtype"] = torch.float32
        return layer.dequantize().float()
    more = {"own": own_bits(config, module)} if method == "gptq" else {}
    return definitions.METHODS[method](parts, config, **more)


def with_definition(source, checkpoint, how):
    """The original model with the weights that the checkpoint's tensors stand for."""
    config = config_of(checkpoint)
    tensors = {}
    for file in checkpoint.glob("*.safetensors"):
        tensors |= load_file(file)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    codes = definitions.CODES[method_of(config)]
    count = 0
    for name, linear in model.named_modules():
        parts = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        if not isinstance(linear, torch.nn.Linear) or codes not in parts or len(parts) == 1:
            continue
        linear.weight.data = dense_by(how, config, name, parts)
        rounded = rounding(config, parts)
        if rounded is not None:
            linear.register_forward_pre_hook(lambda _, x, rounded=rounded: (rounded(x[0]),))
        count += 1
    if count == 0:
        raise RuntimeError("no module is quantized")
    return model


def compare(model, logits):
    """Largest difference, mean KL of the tool's from lowbit's, share of tokens with the same top."""
    worst, kl, same, count = 0.0, 0.0, 0.0, 0
    with safe_open(logits, "pt") as file, torch.no_grad():
        for prompt in sorted(k.removesuffix(".tokens") for k in file.keys() if k.endswith(".tokens")):
            tokens = file.get_tensor(f"{prompt}.tokens").long()
            wanted = file.get_tensor(f"{prompt}.logits")
            found = model(input_ids=tokens[None]).logits[0].float()
            worst = max(worst, (found - wanted).abs().max().item())
            own, other = wanted.double().log_softmax(-1), found.double().log_softmax(-1)
            kl += (own.exp() * (own - other)).sum().item()
            same += (found.argmax(-1) == wanted.argmax(-1)).sum().item()
            count += len(tokens)
    return worst, kl / count, same / count


def row(options, name, flags, how):
    checkpoint, logits = written(options.model, options.folder, name, flags, how)
    if how in (TOOL, WEIGHTS):
        model = with_tool(checkpoint)
    elif how == "gptqmodel":
        model = with_gptqmodel(checkpoint)
    else:
        model = with_definition(options.model, checkpoint, how)
    return compare(model, logits)


def verdict_on(name, how, worst, kl, same):
    if inputs_are_rounded(name, how) or is_bfloat(name, how):
        return "ok" if kl <= 1e-3 and same >= 0.98 else "off"
    return "ok" if worst <= 1e-3 else "off"


def is_bfloat(name, how):
    """Tools whose kernels know no f32: GPTQModel's for 8 bits and for its own loader."""
    return how == "gptqmodel" or (how == TOOL and re.match(r"gptq\S* w8", name) is not None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines, failed = [], 0

    def say(line):
        print(line, flush=True)
        lines.append(line)

    say(f"| {'checkpoint':22} | {'read by':12} | worst logit | mean KL | same top | verdict |")
    say(f"| {'-' * 22} | {'-' * 12} | ----------: | ------: | -------: | ------- |")
    for name, flags, how in ROWS:
        if options.only not in f"{name} {how}":
            continue
        try:
            worst, kl, same = row(options, name, flags, how)
            verdict = verdict_on(name, how, worst, kl, same)
            say(f"| {name:22} | {how:12} | {worst:11.1e} | {kl:7.0e} | {same:8.1%} | {verdict} |")
        except Exception as error:
            if options.trace:
                traceback.print_exc()
            verdict = f"{type(error).__name__}: {str(error).splitlines()[0][:110]}"
            say(f"| {name:22} | {how:12} | {'':11} | {'':7} | {'':8} | {verdict} |")
        failed += verdict != "ok"
    if options.record:
        head = f"# Layouts in the tools they are for\n\n{time.strftime('%Y-%m-%d')}, {options.model.name}, largest difference of a logit to lowbit's f32\n\n"
        options.record.write_text(head + "\n".join(lines) + "\n")
    sys.exit(failed > 0)


main()
