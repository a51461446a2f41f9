"""What the attention calls take beside queries, keys and values, and the checks of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.checks import KernelInputError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the kernels compute in; the reference also takes float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HopMask:
    """Frame p sees the frames before `(p // hop_frames + 1) * hop_frames + lookahead_frames`.

    `first_frame` is the stream position of the window's first frame; with a cache, its `committed` is.
    """

    hop_frames: int
    lookahead_frames: int
    first_frame: int = 0

    def __post_init__(self) -> None:
        """Raises KernelInputError for a hop of no frames, or a negative count."""
        if self.hop_frames < 1 or self.lookahead_frames < 0 or self.first_frame < 0:
            raise KernelInputError(f"need hop_frames >= 1 and no negative count, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionWeights:
    """Weights of an attention block, rows are outputs. H heads of D channels, width C, keys read K channels.

    Without `norm_weight` and `norm_bias` (both or neither) the input is not normalised.
    """

    query: Tensor  # (H * D, C)
    query_bias: Tensor  # (H * D,)
    key_value: Tensor  # (2 * H * D, K): keys, then values
    key_value_bias: Tensor  # (2 * H * D,)
    out: Tensor  # (C, H * D)
    out_bias: Tensor  # (C,)
    norm_weight: Tensor | None = None  # (C,)
    norm_bias: Tensor | None = None  # (C,)
    norm_epsilon: float = 1e-5

    @staticmethod
    def packed(
        qkv: Tensor,  # (3 * H * D, C): queries, keys, values
        qkv_bias: Tensor,  # (3 * H * D,)
        out: Tensor,
        out_bias: Tensor,
        norm: tuple[Tensor, Tensor] | None = None,
    ) -> AttentionWeights:
        """Self-attention from one weight: views of it, nothing is copied.

        Raises:
            KernelInputError: The rows are not three equal parts.
        """
        if qkv.ndim != 2 or len(qkv) % 3 or qkv_bias.shape != qkv.shape[:1]:
            raise KernelInputError(f"need qkv (3 * H * D, C) and its bias, got {_shapes(qkv, qkv_bias)}")
        inner = len(qkv) // 3
        return AttentionWeights(
            query=qkv[:inner],
            query_bias=qkv_bias[:inner],
            key_value=qkv[inner:],
            key_value_bias=qkv_bias[inner:],
            out=out,
            out_bias=out_bias,
            norm_weight=None if norm is None else norm[0],
            norm_bias=None if norm is None else norm[1],
        )

    def named(self) -> dict[str, Tensor]:
        """The tensors that are there."""
        tensors = {
            "query": self.query,
            "query_bias": self.query_bias,
            "key_value": self.key_value,
            "key_value_bias": self.key_value_bias,
            "out": self.out,
            "out_bias": self.out_bias,
        }
        if self.norm_weight is not None and self.norm_bias is not None:
            tensors |= {"norm_weight": self.norm_weight, "norm_bias": self.norm_bias}
        return tensors


def check_tensor(name: str, tensor: Tensor, shape: Sequence[int | None], like: Tensor, *, dtype: bool = True) -> None:
    """Check one tensor against a shape (None: any length from 1) and another's dtype and device.

    Raises:
        KernelInputError: It differs; the message names what was received.
    """
    fits = tensor.ndim == len(shape) and all(
        got == want or (want is None and got > 0) for got, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise KernelInputError(f"{name} must have shape {wanted}, got {tuple(tensor.shape)}")
    if tensor.device != like.device:
        raise KernelInputError(f"{name} must be on {like.device}, got {tensor.device}")
    if dtype and tensor.dtype != like.dtype and not _autocast(like):
        raise KernelInputError(f"{name} must be {like.dtype}, got {tensor.dtype}")


def check_floating(name: str, tensor: Tensor, rank: int) -> None:
    """Check the tensor that the others are compared with.

    Raises:
        KernelInputError: Not a float tensor of this rank.
    """
    if tensor.ndim != rank:
        raise KernelInputError(f"{name} must have {rank} dimensions, got shape {tuple(tensor.shape)}")
    if tensor.dtype not in (*DTYPES, torch.float64):
        raise KernelInputError(f"{name} must be float32, float16 or bfloat16, got {tensor.dtype}")


def check_mask(mask: Tensor, shape: tuple[int, int], like: Tensor) -> None:
    """Check a key mask.

    Raises:
        KernelInputError: Not bool of this shape, on this device.
    """
    check_tensor("mask", mask, shape, like, dtype=False)
    if mask.dtype != torch.bool:
        raise KernelInputError(f"mask must be torch.bool, got {mask.dtype}")


def check_positions(
    frames: int, tokens: int, channels: int, *, hop_mask: HopMask | None, rope: bool, bias: Tensor | None
) -> None:
    """Check what needs frames with positions.

    Raises:
        KernelInputError: Positions are asked for between unlike sequences, or rotations of an odd head.
    """
    if (hop_mask is not None or rope or bias is not None) and frames != tokens:
        raise KernelInputError(f"positions need as many keys as queries, got {tokens} and {frames}")
    if rope and channels % 2:
        raise KernelInputError(f"rope needs an even number of channels a head, got {channels}")


def check_bias(bias: Tensor, heads: int, like: Tensor) -> None:
    """Check a table of relative-position biases (H, 2 R + 1).

    Raises:
        KernelInputError: Another shape, or an even number of columns.
    """
    check_tensor("relative_bias", bias, (heads, None), like)
    if bias.shape[1] % 2 == 0:
        raise KernelInputError(f"relative_bias must have an odd number of columns, got {tuple(bias.shape)}")


def check_block(x: Tensor, weights: AttentionWeights, num_heads: int, context: Tensor | None) -> None:
    """Check an attention block's input and weights.

    Raises:
        KernelInputError: The message names the first tensor that disagrees.
    """
    check_floating("x", x, 3)
    check_tensor("x", x, (x.shape[0], None, None), x)
    if context is not None:
        check_tensor("context", context, (x.shape[0], None, None), x)
    width, inner = x.shape[2], len(weights.query)
    if num_heads < 1 or inner % num_heads:
        raise KernelInputError(f"num_heads must divide {inner} channels, got {num_heads}")
    if (weights.norm_weight is None) != (weights.norm_bias is None):
        raise KernelInputError("need norm_weight and norm_bias, or neither; got one of them")
    shapes: dict[str, tuple[int, ...]] = {
        "query": (inner, width),
        "query_bias": (inner,),
        "key_value": (2 * inner, width if context is None else context.shape[2]),
        "key_value_bias": (2 * inner,),
        "out": (width, inner),
        "out_bias": (width,),
        "norm_weight": (width,),
        "norm_bias": (width,),
    }
    for name, tensor in weights.named().items():
        check_tensor(f"weights.{name}", tensor, shapes[name], x)


def _autocast(like: Tensor) -> bool:
    return torch.is_autocast_enabled(like.device.type)


def _shapes(*tensors: Tensor) -> str:
    return ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
