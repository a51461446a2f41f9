"""What a CUDA graph cannot hold, found without a GPU.

`NoHostLooks` refuses, while a function runs on the CPU, every operation that would make a GPU's host wait or whose
result's size depends on numbers. `fake_cuda` runs it on tensors that claim to be on a GPU and hold nothing: there an
operation that mixes devices or asks for a number fails by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LOOKS = frozenset(
    "_local_scalar_dense is_nonzero equal allclose nonzero nonzero_static unique_dim _unique _unique2 "
    "unique_consecutive unique_dim_consecutive masked_select bincount _linalg_check_errors linalg_inv_ex histc "
    "lift_fresh lift_fresh_copy".split()
)
"""Waits for numbers, makes tensors whose size they decide, or copies a Python list to the device."""


class HostLookError(AssertionError):
    """An operation that a CUDA graph cannot hold."""


class NoHostLooks(TorchDispatchMode):
    """Raises HostLookError at the first operation that looks at numbers; counts the others by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Check one operation, then run it."""
        name = func.overloadpacket.__name__
        if name in LOOKS:
            raise HostLookError(f"{func} looks at numbers")
        if name in ("index", "index_put", "index_put_"):
            picks = [pick for pick in args[1] if pick is not None]
            if any(pick.dtype in (torch.bool, torch.uint8) for pick in picks):
                raise HostLookError(f"{func} with a mask: its result's size depends on numbers")
        if name == "repeat_interleave" and len(args) == 1 and isinstance(args[0], torch.Tensor):
            raise HostLookError(f"{func}: its result's size depends on numbers")
        self.calls[name] = self.calls.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


class _WithoutCudaLibrary(TorchFunctionMode):
    """Some calls ask the CUDA library even for fake tensors, and a build for the CPU has none: those run on `meta`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace indexing, and what needs the library; run everything else."""
        if func is torch.Tensor.__getitem__:
            return _indexed(*args)
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError as error:
            if "not linked with support for cuda" not in str(error):
                raise
        return _by_size(func, args, kwargs or {})


def _indexed(x: torch.Tensor, index: Any) -> torch.Tensor:
    picks = list(index) if isinstance(index, tuple) else [index]
    if any(pick is Ellipsis for pick in picks):
        at = next(i for i, pick in enumerate(picks) if pick is Ellipsis)
        named = sum(pick is not None for pick in picks) - 1
        picks[at : at + 1] = [slice(None)] * (x.ndim - named)
    axis = 0
    for pick in picks:
        if pick is None:
            x = torch.ops.aten.unsqueeze(x, axis)
        elif isinstance(pick, int):
            x = torch.ops.aten.select(x, axis, pick)
            continue
        elif isinstance(pick, slice):
            x = torch.ops.aten.slice(x, axis, pick.start, pick.stop, pick.step or 1)
        else:
            x = torch.ops.aten.index_select(x, axis, pick)  # one index, of integers, as the step uses them
        axis += 1
    return x


def _by_size(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tensor of the result's size and type, if all that `func` takes is on one device."""
    devices = {arg.device for arg in args if isinstance(arg, torch.Tensor) and arg.ndim}
    if len(devices) != 1:
        raise RuntimeError(f"{func.__name__} of tensors on {sorted(map(str, devices))}")
    with unset_fake_temporarily():
        empty = [
            torch.empty(arg.shape, dtype=arg.dtype, device="meta") if isinstance(arg, torch.Tensor) else arg
            for arg in args
        ]
        made = func(*empty, **kwargs)
    return torch.empty(made.shape, dtype=made.dtype, device=devices.pop())


@contextmanager
def fake_cuda() -> Iterator[Callable[[Any], Any]]:
    """Inside, tensors are fake; gives a function that turns a tensor, or a module's tensors, into such on `cuda:0`."""
    with FakeTensorMode(allow_non_fake_inputs=True), _WithoutCudaLibrary():

        def moved(given: Any) -> Any:
            if isinstance(given, torch.Tensor):
                return torch.empty_strided(given.shape, given.stride(), dtype=given.dtype, device="cuda:0")
            for module in given.modules():
                for name, weight in module.named_parameters(recurse=False):
                    module._parameters[name] = torch.nn.Parameter(moved(weight), requires_grad=False)
                for name, buffer in module.named_buffers(recurse=False):
                    module._buffers[name] = moved(buffer)
            return given

        yield moved
