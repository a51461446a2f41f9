"""Shipped block sizes of the attention kernels: data that the launcher reads and the compile check compiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernels.compile_case import CompileCase, Constant

LONGEST = 64
"""Frames, tokens and cached frames that the kernels take."""
WIDEST = 512
"""Channels of a block's input; 128 of a head."""
WIDEST_HEAD = 128
BLOCK_K_BYTES = 64
"""Input channels of one product in a projection, in bytes: 16 of float32, 32 of the others."""
BLOCK_V = 16
"""Channels of a head's values that meet their columns of the output projection at once."""
FUSE_ROWS = 16
"""Windows up to this many frames keep the output projection in the kernel; longer ones leave it to one large product.

With all heads in one program every session takes one multiprocessor; longer windows would keep it too long.
"""
STAGES = 2
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_MODULE = "kernels.temporal_attention.triton_impl"
_LEVELS = ((16, 128), (8, 160), (4, 192))
"""Frames and channels of the shipped U-Net's levels; 4 heads, 16 audio tokens of 160 channels."""


def power_of_two(n: int) -> int:
    """The smallest power of two from 16 (what tensor cores take) that is not below n."""
    return max(16, 1 << max(n - 1, 0).bit_length())


def warps(sizes: Mapping[str, int], item_bytes: int) -> int:
    """Warps of a program: 8 where 4 would have to spill registers."""
    large = sizes["BLOCK_T"] * sizes["BLOCK_S"] >= 64 * 64 or sizes.get("BLOCK_C", 0) * item_bytes >= 512
    return 8 if large else 4


def block_constants(
    *, frames: int, tokens: int, width: int, context: int, heads: int, channels: int, item_bytes: int
) -> dict[str, int]:
    """Sizes of the fused block's program."""
    fused = frames <= FUSE_ROWS
    return {
        "C": width,
        "K": context,
        "H": heads,
        "D": channels,
        "HEADS": heads if fused else 1,
        "FUSE_OUT": fused,
        "BLOCK_T": power_of_two(frames),
        "BLOCK_S": power_of_two(tokens),
        "BLOCK_C": power_of_two(width),
        "BLOCK_K": BLOCK_K_BYTES // item_bytes,
        "BLOCK_V": BLOCK_V,
        "BLOCK_D": power_of_two(channels),
        "BLOCK_HALF": power_of_two(channels // 2),
    }


def attention_constants(*, frames: int, tokens: int, cached: int, heads: int, channels: int) -> dict[str, int]:
    """Sizes of the plain kernel's program, one for each session and head."""
    return {
        "H": heads,
        "D": channels,
        "W": cached,
        "BLOCK_T": power_of_two(frames),
        "BLOCK_S": power_of_two(tokens),
        "BLOCK_W": power_of_two(cached),
        "BLOCK_D": power_of_two(channels),
        "BLOCK_HALF": power_of_two(channels // 2),
    }


def compile_cases() -> Iterator[CompileCase]:
    """What the shipped model launches, in each precision, and one of every other form."""
    for dtype in ("fp32", "fp16", "bf16"):
        for frames, width in _LEVELS if dtype != "bf16" else _LEVELS[:1]:  # bf16 compiles to the same sizes as fp16
            yield _block(f"block_self_t{frames}_{dtype}", dtype, frames, width, cross=False)
            yield _block(f"block_cross_t{frames}_{dtype}", dtype, frames, width, cross=True)
    yield _block("block_rope_t64_fp16", "fp16", 64, 128, cross=False, options={"ROPE": True, "HOP": 2, "AHEAD": 2})
    yield _block("block_bias_t16_bf16", "bf16", 16, 128, cross=False, options={"REACH": 16})
    for frames in (16, 64):
        yield _plain(f"attention_t{frames}_fp16", "fp16", frames, 32)
    yield _plain("attention_t16_fp32", "fp32", 16, 32)
    yield _plain("attention_rope_t64_bf16", "bf16", 64, 64, options={"ROPE": True, "HOP": 2, "AHEAD": 2})
    yield _plain("attention_bias_t64_fp16", "fp16", 64, 32, options={"REACH": 32})
    for dtype in ("fp16", "fp32"):
        rope: dict[str, Constant] = {"ROPE": True, "HOP": 2, "AHEAD": 2}
        yield _plain(f"attention_stream_{dtype}", dtype, 16, 32, cached=64, options=rope)


_OPTIONS: dict[str, Constant] = {"ROPE": False, "HOP": 0, "AHEAD": 0, "REACH": 0}
_POINTERS = ("x", "context", "norm_w", "norm_b", "q_w", "q_b", "kv_w", "kv_b", "o_w", "o_b", "bias", "out")


def _block(
    name: str, dtype: str, frames: int, width: int, *, cross: bool, options: dict[str, Constant] | None = None
) -> CompileCase:
    """A fused block as the U-Net launches it: 4 heads, normalised, audio of 160 channels with a mask."""
    chosen = _OPTIONS | (options or {})
    tokens, source = (16, 160) if cross else (frames, width)
    sizes = block_constants(
        frames=frames,
        tokens=tokens,
        width=width,
        context=source,
        heads=4,
        channels=width // 4,
        item_bytes=_BYTES[dtype],
    )
    strides = ("x_sb", "x_st", "c_sb", "c_st", "m_sb")
    signature = dict.fromkeys(_POINTERS, f"*{dtype}") | {"mask": "*u8"}
    signature |= dict.fromkeys(("T", "S", *strides, "first"), "i32") | {"scale": "fp32", "epsilon": "fp32"}
    fixed: dict[str, Constant] = {"x_sc": 1, "c_sc": 1, "m_ss": 1, "NORM": True, "CROSS": cross, "MASK": cross}
    absent = (() if cross else ("context", "mask")) + (() if chosen["REACH"] else ("bias",))
    return _case("block_kernel", name, dtype, signature, {**fixed, **chosen}, sizes, absent, strides)


def _plain(
    name: str, dtype: str, frames: int, channels: int, *, cached: int = 0, options: dict[str, Constant] | None = None
) -> CompileCase:
    """Attention alone over a window's own frames, and the cached ones before it."""
    chosen = _OPTIONS | (options or {})
    sizes = attention_constants(frames=frames, tokens=frames, cached=cached, heads=4, channels=channels)
    strides = tuple(f"{tensor}_s{axis}" for tensor in "qkv" for axis in "bht")
    signature = dict.fromkeys(("q", "k", "v", "bias", "cache_k", "cache_v", "out"), f"*{dtype}")
    signature |= {"mask": "*u8", "committed": "*i64"} | dict.fromkeys(("T", "S", *strides, "m_sb", "first"), "i32")
    signature |= {"scale": "fp32"}
    fixed: dict[str, Constant] = dict.fromkeys(("q_sd", "k_sd", "v_sd", "m_ss"), 1) | {"MASK": True}
    absent = (() if cached else ("cache_k", "cache_v", "committed")) + (() if chosen["REACH"] else ("bias",))
    return _case("attention_kernel", name, dtype, signature, {**fixed, **chosen}, sizes, absent, strides)


def _case(
    kernel: str,
    name: str,
    dtype: str,
    signature: dict[str, str],
    constants: dict[str, Constant],
    sizes: dict[str, int],
    absent: tuple[str, ...],
    divisible: tuple[str, ...],
) -> CompileCase:
    return CompileCase(
        kernel=f"{_MODULE}:{kernel}",
        name=name,
        signature={argument: kind for argument, kind in signature.items() if argument not in absent},
        constants={**constants, **sizes}
        | dict.fromkeys(absent)
        | {"DOT": f"tl.{_TYPES[dtype]}", "PRECISION": "tf32x3" if dtype == "fp32" else "ieee"},
        num_warps=warps(sizes, _BYTES[dtype]),
        num_stages=STAGES,
        divisible=divisible,
    )
