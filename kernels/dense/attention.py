"""Public call: multi-head attention over short sequences."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from kernels.backend import Backend, choose_backend
from kernels.checks import KernelInputError
from kernels.dense.cpu_impl import attend_native
from kernels.dense.inputs import check_rows, check_tensor
from kernels.dense.reference import attend_reference
from kernels.native import cpu_info, instruction_set_index


def attend(
    query: Tensor,  # (B, T, heads * D) float32
    key: Tensor,  # (B, S, heads * D)
    value: Tensor,  # (B, S, heads * D)
    num_heads: int,
    *,
    bias: Tensor | None = None,  # (B, S): added to scores, -inf where unheard
    scale: float | None = None,  # 1 / sqrt(D) if not given
    instruction_set: str = "auto",
    backend: Backend = "auto",
) -> Tensor:
    """softmax(scale q k^T + bias) v for each head, (B, T, heads * D); 0 where nothing is heard. No gradients natively.

    Query, key and value may be columns of wider tensors: only their last dimension has to be contiguous.

    Raises:
        KernelInputError: Shapes, types, devices or strides disagree.
    """
    check_rows("query", query, (None, None, None))
    batch, frames, width = query.shape
    check_rows("key", key, (batch, None, width))
    check_rows("value", value, (batch, key.shape[1], width))
    if bias is not None:
        check_tensor("bias", bias, (batch, key.shape[1]))
    if num_heads < 1 or width % num_heads:
        raise KernelInputError(f"num_heads must divide {width}, got {num_heads}")
    scale = (width // num_heads) ** -0.5 if scale is None else scale
    isa = _native_level(backend, instruction_set)
    if isa is None:
        return attend_reference(query, key, value, num_heads, bias=bias, scale=scale)
    out = torch.empty(batch, frames, width)
    attend_native(query, key, value, num_heads, bias, scale, out, isa)
    return out


@cache
def _native_level(backend: Backend, instruction_set: str) -> int | None:
    """The level's number in the C ABI, None for the reference."""
    if choose_backend("attend", backend, cpu_library=cpu_info().built) == "reference":
        return None
    return instruction_set_index(instruction_set)
