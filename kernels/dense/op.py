"""Public call: y = after(W before(norm(x)) + b) + add, over frames or windows of frames."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from kernels.backend import Backend, choose_backend
from kernels.checks import KernelInputError
from kernels.dense.cpu_impl import NativeDense, NativeTeam
from kernels.dense.inputs import check_tensor, is_plain
from kernels.dense.reference import Activation, Norm, dense_reference
from kernels.native import cpu_info

__all__ = ["Activation", "Dense", "Norm", "Team"]

Team = NativeTeam
_KINDS = get_args(Activation)


class Dense:
    """A matrix packed for products with few rows, e.g. a window of frames. Holds a copy of its weights; no gradients.

    Natively weights are kept in half precision where that holds all of them exactly, else in float32; products and
    sums are in float32 either way. Backends agree within rounding (`tests/kernels/test_dense.py`).

    With ``taps`` > 1 it is a convolution: a row sees so many neighbouring frames side by side, zero beyond the ends,
    and every ``stride``-th frame has a row.
    """

    def __init__(
        self,
        weight: Tensor,  # (N, taps * C)
        bias: Tensor | None = None,  # (N,)
        *,
        taps: int = 1,
        stride: int = 1,
        instruction_set: str = "auto",
        team: Team | None = None,
        backend: Backend = "auto",
    ) -> None:
        """Pack.

        Args:
            instruction_set: One of `kernels.native.cpu_info().instruction_sets`, or "auto" for the best.
            team: Threads that share each product; the calling thread alone if not given.

        Raises:
            KernelInputError: Shapes or types disagree, taps are not odd, or the backend or level cannot run here.
        """
        check_tensor("weight", weight, (None, None))
        if bias is not None:
            check_tensor("bias", bias, (weight.shape[0],))
        if taps < 1 or taps % 2 == 0 or weight.shape[1] % taps:
            raise KernelInputError(f"taps must be odd and divide {weight.shape[1]} inputs, got {taps}")
        if stride < 1:
            raise KernelInputError(f"stride must be at least 1, got {stride}")
        self.taps, self.stride = taps, stride
        self.outputs, self.channels = weight.shape[0], weight.shape[1] // taps
        self._native: NativeDense | None = None
        if choose_backend("dense", backend, cpu_library=cpu_info().built) == "cpu":
            self._native = NativeDense(weight, bias, instruction_set, team)
        else:
            self._weight, self._bias = weight.clone(), None if bias is None else bias.clone()

    @property
    def instruction_set(self) -> str:
        """The level that runs, "reference" where the native library does not."""
        return "reference" if self._native is None else self._native.instruction_set

    @property
    def num_bytes(self) -> int:
        """Of the packed weights."""
        if self._native is not None:
            return self._native.num_bytes
        return 4 * (self._weight.numel() + (0 if self._bias is None else self._bias.numel()))

    def __call__(
        self,
        x: Tensor,  # (B, T, C) float32
        *,
        norm: Norm | None = None,
        before: Activation = "none",
        after: Activation = "none",
        add: Tensor | None = None,
    ) -> Tensor:
        """(B, ceil(T / stride), N): the product with the normalised, activated frames, activated, and ``add`` on it.

        Raises:
            KernelInputError: Shapes, types, devices or strides disagree, or an activation is unknown.
        """
        if not (x.ndim == 3 and x.numel() and is_plain(x, (*x.shape[:2], self.channels))):
            check_tensor("x", x, (None, None, self.channels))
        batch, frames = x.shape[:2]
        shape = (batch, (frames - 1) // self.stride + 1, self.outputs)
        if add is not None:
            check_tensor("add", add, shape)
        if norm is not None:
            each = (self.channels,) if norm.scale.ndim == 1 else (batch, self.channels)
            check_tensor("norm.scale", norm.scale, each)
            check_tensor("norm.shift", norm.shift, each)
        if before not in _KINDS or after not in _KINDS:
            raise KernelInputError(f"activations must be of {_KINDS}, got {before!r} and {after!r}")
        if self._native is None:
            return dense_reference(
                x, self._weight, self._bias, taps=self.taps, stride=self.stride, norm=norm, before=before, after=after,
                add=add,
            )  # fmt: skip
        y = torch.empty(shape)
        self._native.run(x, y, self.taps, self.stride, norm, before, after, add)
        return y
