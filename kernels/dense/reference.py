"""What the native layers compute, in plain PyTorch; differentiable, any floating type."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["none", "silu", "gelu"]


class Norm(NamedTuple):
    """A layer norm over channels: scale and shift (C,), or (B, C) for one of each batch row."""

    scale: Tensor
    shift: Tensor
    epsilon: float = 1e-5


def dense_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    taps: int = 1,
    stride: int = 1,
    norm: Norm | None = None,
    before: Activation = "none",
    after: Activation = "none",
    add: Tensor | None = None,
) -> Tensor:
    """As :class:`kernels.dense.Dense`; weight (N, taps * C), input is checked."""
    if norm is not None:
        scale, shift = (part if part.ndim == 1 else part[:, None] for part in (norm.scale, norm.shift))
        x = functional.layer_norm(x, x.shape[-1:], eps=norm.epsilon) * scale + shift
    x = functional.pad(activated(x, before), (0, 0, taps // 2, taps // 2))
    windows = x.unfold(1, taps, stride).transpose(2, 3).flatten(2)  # (B, T, taps * C), neighbours side by side
    y = activated(functional.linear(windows, weight, bias), after)
    return y if add is None else y + add


def attend_reference(
    query: Tensor, key: Tensor, value: Tensor, num_heads: int, *, bias: Tensor | None = None, scale: float
) -> Tensor:
    """As :func:`kernels.dense.attend`; input is checked."""
    q, k, v = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (query, key, value))
    scores = scale * (q @ k.transpose(-1, -2))
    if bias is not None:
        scores = scores + bias[:, None, None]
    deaf = torch.isneginf(scores).all(-1, keepdim=True)
    shares = torch.softmax(scores.masked_fill(deaf, 0.0), -1).masked_fill(deaf, 0.0)
    mixed: Tensor = shares @ v
    return mixed.transpose(1, 2).flatten(2)


def activated(x: Tensor, kind: Activation) -> Tensor:
    """The activation's value."""
    if kind == "silu":
        return functional.silu(x)
    return functional.gelu(x) if kind == "gelu" else x
