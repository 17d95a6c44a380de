"""Times llm-compressor's calibration and rounding on the same samples that lowbit gets.

Run:  python run_llmcompressor.py METHOD MODEL TEXT --samples 128 --length 512 --scheme w4g128

Prints one line of JSON: {"method", "seconds", "threads", "versions"}. Only the call that calibrates
and rounds is timed; imports, loading the model, tokenizing and saving are not. Weights are widened
to f32, as lowbit computes in f32. Without a GPU its AWQ asks for page-locked memory that there is
nobody to give; ordinary memory takes its place.
"""

import argparse
import json
import logging
import os
import sys
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def recipe_for(method, scheme):
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    bits = int(scheme[1])
    weights = QuantizationArgs(
        num_bits=bits,
        strategy="group",
        group_size=int(scheme.split("g")[1].split("-")[0]),
        symmetric=not scheme.endswith("-asym"),
        observer="memoryless_mse" if method.endswith("-mse") else "memoryless_minmax",
    )
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    common = {"config_groups": groups, "ignore": ["lm_head"]}
    rounders = {
        "rtn": [QuantizationModifier],
        "gptq": [GPTQModifier],
        "awq": [AWQModifier, QuantizationModifier],
    }
    kinds = rounders[method.removesuffix("-mse")]
    return [kind(duo_scaling=True) if kind is AWQModifier else kind(**common) for kind in kinds]


def samples_of(options):
    import torch
    from datasets import Dataset
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(options.model, "tokenizer.json"))
    with open(options.text, encoding="utf-8") as file:
        ids = tokenizer.encode(file.read(), add_special_tokens=False).ids
    wanted = options.samples * options.length
    if len(ids) < wanted:
        sys.exit(f"the text has {len(ids)} tokens, and {wanted} are wanted")
    rows = [ids[i : i + options.length] for i in range(0, wanted, options.length)]
    ones = [[1] * options.length] * len(rows)
    dataset = Dataset.from_dict({"input_ids": rows, "attention_mask": ones})
    return dataset.with_format("torch", dtype=torch.long)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=["rtn", "rtn-mse", "gptq", "gptq-mse", "awq"])
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--scheme", default="w4g128")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()

    import compressed_tensors
    import llmcompressor
    import torch
    import transformers
    from loguru import logger

    # What it says about its progress is not the answer.
    logger.remove()
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads)
    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = lambda tensor, *_: tensor
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    recipe = recipe_for(options.method, options.scheme)
    # Round-to-nearest looks at no data, and is spared it.
    data = None if options.method.startswith("rtn") else samples_of(options)
    begun = time.perf_counter()
    llmcompressor.oneshot(
        model=model,
        dataset=data,
        recipe=recipe,
        num_calibration_samples=options.samples,
        max_seq_length=options.length,
        shuffle_calibration_samples=False,
    )
    seconds = time.perf_counter() - begun
    versions = {m.__name__: m.__version__ for m in (llmcompressor, compressed_tensors, torch, transformers)}
    print(json.dumps({"method": options.method, "seconds": seconds, "threads": options.threads, "versions": versions}))


main()
