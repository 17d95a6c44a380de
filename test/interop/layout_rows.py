"""The checkpoints that load_layouts.py makes: name, options of `lowbit quantize`, and what reads it."""

CT, DEFINITION, TOOL, WEIGHTS = "transformers", "definition", "transformers", "weights"
FAST = ["--samples", "8", "--length", "128"]
DOWN = ["--layers", "re:.*down_proj={}"]

# Name, options of `lowbit quantize`, and what reads the result.
ROWS = [
    ("ct w4g128", ["--scheme", "w4g128"], CT),
    ("ct w4g128-asym", ["--scheme", "w4g128-asym"], CT),
    ("ct w4", ["--scheme", "w4"], CT),
    ("ct w2g64", ["--scheme", "w2g64"], CT),
    ("ct w3g128", ["--scheme", "w3g128"], CT),
    ("ct w3g128-asym", ["--scheme", "w3g128-asym"], CT),
    ("ct w8g128", ["--scheme", "w8g128"], CT),
    ("ct w8-asym", ["--scheme", "w8-asym"], CT),
    *[
        (f"ct {scheme}", ["--scheme", scheme, *more], how)
        for scheme, more in (
            ("w8a8", []),
            ("w8a8-asym", []),
            ("w8a8s", FAST),
            ("w4a8g128", []),
            ("fp8a8", []),
            ("fp8a8st", FAST),
            ("fp8a8b128x128", []),
        )
        for how in ((CT,) if more else (CT, WEIGHTS))
    ],
    ("ct fp8", ["--scheme", "fp8"], CT),
    *[(f"ct {scheme}", ["--scheme", scheme], how) for scheme in ("nvfp4", "mxfp4") for how in (CT, DEFINITION)],
    *[("ct nvfp4a4", ["--scheme", "nvfp4a4", *FAST], how) for how in (CT, DEFINITION)],
    ("ct w4g128 + w8g128", ["--scheme", "w4g128", "--layers", "re:.*down_proj=w8g128"], CT),
    ("ct w4g128 + fp8", ["--scheme", "w4g128", "--layers", "re:.*down_proj=fp8"], CT),
    *[
        (f"gptq w{bits}g64", ["--format", "gptq", "--scheme", f"w{bits}g64"], how)
        for bits in (2, 3, 4, 8)
        for how in (TOOL, DEFINITION)
    ],
    *[
        (name, options, how)
        for name, options in (
            ("gptq w4g64 by index", ["--format", "gptq", "--method", "gptq", "--act-order", "group", "--scheme", "w4g64", *FAST]),
            ("gptq-v2 w2g64-asym", ["--format", "gptq-v2", "--scheme", "w2g64-asym"]),
            ("gptq-v2 w3g64-asym", ["--format", "gptq-v2", "--scheme", "w3g64-asym"]),
            ("gptq-v2 w4g64-asym", ["--format", "gptq-v2", "--scheme", "w4g64-asym"]),
            ("gptq-v2 w8g64-asym", ["--format", "gptq-v2", "--scheme", "w8g64-asym"]),
            ("awq w4g64-asym", ["--format", "awq", "--scheme", "w4g64-asym"]),
        )
        for how in (TOOL, DEFINITION)
    ],
    *[
        ("gptq w4g64 + w8g64", ["--format", "gptq", "--scheme", "w4g64", "--layers", "re:.*down_proj=w8g64"], how)
        for how in ("gptqmodel", DEFINITION)
    ],
    # The CPU kernel that transformers takes has no groups longer than 256.
    ("gptq w4", ["--format", "gptq", "--scheme", "w4"], DEFINITION),
    ("bitsandbytes nf4", ["--format", "bitsandbytes", "--scheme", "nf4"], TOOL),
    ("bitsandbytes nf4-dq", ["--format", "bitsandbytes", "--scheme", "nf4-dq"], TOOL),
    ("bitsandbytes fp4", ["--format", "bitsandbytes", "--scheme", "fp4"], TOOL),
    ("bitsandbytes fp4-dq", ["--format", "bitsandbytes", "--scheme", "fp4-dq"], TOOL),
    ("bitsandbytes w8", ["--format", "bitsandbytes", "--scheme", "w8"], TOOL),
    ("hqq w2g64-float", ["--format", "hqq", "--method", "hqq", "--scheme", "w2g64-float"], "hqq"),
    ("hqq w3g64-float", ["--format", "hqq", "--method", "hqq", "--scheme", "w3g64-float"], "hqq"),
    ("hqq w4g64-float", ["--format", "hqq", "--method", "hqq", "--scheme", "w4g64-float"], "hqq"),
    ("hqq w8g64-float", ["--format", "hqq", "--method", "hqq", "--scheme", "w8g64-float"], "hqq"),
    ("hqq w4g64-float", ["--format", "hqq", "--method", "hqq", "--scheme", "w4g64-float"], DEFINITION),
    ("fp8 fp8a8b128x128", ["--format", "fp8", "--scheme", "fp8a8b128x128"], DEFINITION),
    ("fp8 fp8a8t", ["--format", "fp8", "--scheme", "fp8a8t"], DEFINITION),
    ("fp8 fp8a8st", ["--format", "fp8", "--scheme", "fp8a8st", *FAST], DEFINITION),
    ("eetq w8", ["--format", "eetq", "--scheme", "w8"], DEFINITION),
]
