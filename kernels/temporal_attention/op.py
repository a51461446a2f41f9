"""The public call. Today it runs PyTorch's attention; a Triton kernel joins behind the same call (issue 8)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from kernels.checks import KernelInputError


def temporal_attention(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Softmax attention (Vaswani et al. 2017, Eq. 1) of queries (B, H, T, D) over keys and values (B, H, S, D).

    Args:
        mask: (B, S) bool, True where a key may be attended to. A row without any True gives zeros.

    Raises:
        KernelInputError: The shapes disagree.
    """
    if query.shape[:2] != key.shape[:2] or key.shape != value.shape or query.shape[3] != key.shape[3]:
        shapes = f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        raise KernelInputError(f"need (B, H, T, D), (B, H, S, D), (B, H, S, D); got {shapes}")
    if mask is None:
        return functional.scaled_dot_product_attention(query, key, value)
    allowed = mask[:, None, None, :]
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    return out.masked_fill(~allowed.any(-1, keepdim=True), 0.0)
