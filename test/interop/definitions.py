"""What the layouts of tools that need a GPU stand for, by the arithmetic of their definitions.

Every function takes the tensors of one module by the name of their part, the `quantization_config`,
and gives the dense weight `[outputs, inputs]` in f32. Nothing here is shared with lowbit: bits are
taken one by one with NumPy, as the definitions are written.

Sources: GPTQModel `nn_modules/qlinear`, AutoAWQ `awq/utils/packing_utils.py`, hqq `core/bitpack.py`,
EETQ (FasterTransformer `cutlass_preprocessors`), transformers `integrations/finegrained_fp8.py`.
"""

import numpy as np
import torch


def bits_of(words):
    """The 32 bits of every word, lowest first, along a new last axis."""
    words = words.numpy().astype(np.uint32)
    return words[..., None] >> np.arange(32, dtype=np.uint32) & 1


def stream(words, bits, count):
    """`count` codes of a dense stream of words along the last axis."""
    each = bits_of(words).reshape(*words.shape[:-1], -1)[..., : count * bits]
    each = each.reshape(*words.shape[:-1], count, bits)
    return (each << np.arange(bits, dtype=np.uint32)).sum(-1).astype(np.int64)


def gptq(parts, config, own=None):
    """`own` are the bits of a `dynamic` rule, if one names the module."""
    bits = own or config["bits"]
    inputs, outputs = parts["g_idx"].shape[0], parts["qweight"].shape[1]
    codes = stream(parts["qweight"].T, bits, inputs)
    zeros = stream(parts["qzeros"], bits, outputs)
    if config["checkpoint_format"] == "gptq":
        zeros = zeros + 1
    group = parts["g_idx"].long().numpy()
    scales = parts["scales"].float().numpy()
    return torch.tensor((codes - zeros[group].T).astype(np.float32) * scales[group].T)


def awq(parts, config):
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])

    def unpack(words):
        nibbles = stream(words[..., None], 4, 8)
        codes = np.empty_like(nibbles)
        codes[..., order] = nibbles
        return codes.reshape(words.shape[0], -1)

    codes, zeros = unpack(parts["qweight"]), unpack(parts["qzeros"])
    each = codes.shape[0] // zeros.shape[0]
    scales = parts["scales"].float().numpy()
    dense = (codes - zeros.repeat(each, 0)).astype(np.float32) * scales.repeat(each, 0)
    return torch.tensor(np.ascontiguousarray(dense.T))


def eetq(parts, config):
    inputs, outputs = parts["weight"].shape
    codes = parts["weight"].numpy().view(np.uint8).reshape(-1, 4)[:, [0, 2, 1, 3]].astype(np.int32) - 128
    # Pairs of columns taking turns after 64 inputs, then inputs in each 16 in their own order.
    columns = codes.reshape(outputs // 2, inputs // 64, 2, 64).transpose(0, 2, 1, 3).reshape(outputs, inputs)
    order = np.array([0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15])
    plain = np.empty_like(columns).reshape(outputs, -1, 16)
    plain[..., order] = columns.reshape(outputs, -1, 16)
    scales = parts["weight_scales"].float().numpy()
    return torch.tensor(plain.reshape(outputs, inputs).astype(np.float32) * scales[:, None])


def hqq(parts, config):
    bits, shape = int(parts["nbits"]), parts["shape"].tolist()
    packed = parts["W_q"].numpy()
    count = int(np.prod(shape)) // packed.shape[1]
    if bits == 8:
        codes = packed
    elif bits == 3:
        codes = np.concatenate([packed >> (27 - 3 * k) & 7 for k in range(10)])[:count]
    else:
        parts_of = 8 // bits
        codes = np.concatenate([packed >> (8 - bits * (k + 1)) & (2**bits - 1) for k in range(parts_of)])
    dense = (torch.tensor(codes).float() - parts["zero"].float()) * parts["scale"].float()
    return dense.reshape(shape)


def fp8(parts, config):
    weight = parts["weight"].float()
    if "weight_scale" in parts:
        return weight * parts["weight_scale"].float()
    high, wide = config["weight_block_size"]
    scales = parts["weight_scale_inv"].repeat_interleave(high, 0).repeat_interleave(wide, 1)
    return weight * scales[: weight.shape[0], : weight.shape[1]]


def fp8_inputs(config, scale=None):
    """Rounding of inputs to E4M3: with one scale, per token, or per run beside blocks."""
    def rounded(x):
        def by(s, v):
            return (v / s).clamp(-448, 448).to(torch.float8_e4m3fn).float() * s

        if scale is not None:
            return by(scale, x)
        runs = x.reshape(-1, config["weight_block_size"][1]) if config.get("weight_block_size") else x.reshape(-1, x.shape[-1])
        largest = runs.abs().amax(-1, keepdim=True)
        return by(torch.where(largest > 0, largest / 448, torch.ones_like(largest)), runs).reshape(x.shape)

    return rounded


E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def fp4(packed):
    """Codes `s ee m`, two to a byte, the even column in the low half."""
    nibbles = torch.stack([packed & 15, packed >> 4], -1).reshape(packed.shape[0], -1).long()
    return E2M1[nibbles & 7] * torch.where(nibbles > 7, -1.0, 1.0)


def nvfp4(parts, config):
    scales = parts["weight_scale"].float() / parts["weight_global_scale"].float()
    return fp4(parts["weight_packed"]) * scales.repeat_interleave(16, 1)


def nvfp4_inputs(scale):
    """Rounding of inputs to E2M1 in runs of 16, whose scales are E4M3 over one from calibration."""
    def rounded(x):
        runs = x.reshape(*x.shape[:-1], -1, 16)
        stored = (scale * (runs.abs().amax(-1, keepdim=True) / 6)).clamp(max=448).to(torch.float8_e4m3fn).float()
        each = torch.where(stored == 0, torch.full_like(stored, 0.125), stored) / scale
        wanted = (runs / each).abs()
        middle = (E2M1[1:] + E2M1[:-1]) / 2
        # A value half way goes to the even code.
        passed = [wanted > m if code % 2 == 0 else wanted >= m for code, m in enumerate(middle)]
        return (E2M1[sum(p.long() for p in passed)] * runs.sign() * each).reshape(x.shape)

    return rounded


def mxfp4(parts, config):
    return fp4(parts["weight_packed"]) * torch.exp2(parts["weight_scale"].float() - 127).repeat_interleave(32, 1)


METHODS = {"gptq": gptq, "awq": awq, "eetq": eetq, "hqq": hqq, "fp8": fp8, "nvfp4-pack-quantized": nvfp4, "mxfp4-pack-quantized": mxfp4}
CODES = {"gptq": "qweight", "awq": "qweight", "eetq": "weight_scales", "hqq": "W_q", "fp8": "weight", "nvfp4-pack-quantized": "weight_packed", "mxfp4-pack-quantized": "weight_packed"}
