"""Choose the implementation of a kernel from what is there, and say so once."""

from __future__ import annotations

import importlib.util
import logging
import os
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from kernels.checks import KernelInputError

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "reference", "cpu", "triton"]
Chosen = Literal["reference", "cpu", "triton"]

OLDEST_CAPABILITY = (8, 0)
"""Compute capability that the Triton kernels are compiled and checked for; sm_75 has no bfloat16 and less memory."""

_log = logging.getLogger(__name__)


def choose_backend(
    kernel: str, backend: Backend, *, cpu_library: bool | None = None, triton: str | None = None
) -> Chosen:
    """Resolve ``"auto"``: Triton where it can run, else the fused C++ library where it was built, else the reference.

    A backend that was asked for by name and cannot run is an error, never a quiet fallback.

    Args:
        cpu_library: Whether the library is built; None where the kernel has no C++ form.
        triton: "" where Triton can run on these inputs, else why not; None where the kernel has no Triton form.

    Raises:
        KernelInputError: Unknown backend, or one that was named and cannot run.
    """
    if backend not in get_args(Backend):
        raise KernelInputError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    if backend == "cpu" and not cpu_library:
        reason = "it has no C++ form" if cpu_library is None else "the native library is not built"
        raise KernelInputError(f"{kernel}: backend 'cpu' asked for, but {reason}")
    if backend == "triton" and triton != "":
        raise KernelInputError(f"{kernel}: backend 'triton' asked for, but {triton or 'it has no Triton form'}")
    chosen: Chosen = "reference"
    if backend == "triton" or (backend == "auto" and triton == ""):
        chosen = "triton"
    elif backend == "cpu" or (backend == "auto" and cpu_library):
        chosen = "cpu"
    _log_choice(kernel, chosen, slow=backend == "auto" and chosen == "reference" and cpu_library is False)
    return chosen


def triton_problem(device: torch.device, backend: Backend = "auto") -> str:
    """Why Triton cannot run on tensors of this device, "" if it can.

    On a CPU only its interpreter can, for tests: asked for by name, with TRITON_INTERPRET=1 set before the import.
    """
    if device.type == "cpu" and backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
        return "" if _has_triton() else "triton is not installed"
    if device.type != "cuda":
        return f"the tensors are on {device}"
    return _cuda_problem(device.index)


@cache
def _cuda_problem(index: int | None) -> str:
    import torch

    if not _has_triton():
        return "triton is not installed"
    capability = torch.cuda.get_device_capability(index)
    if torch.version.hip is None and capability < OLDEST_CAPABILITY:
        return f"it needs compute capability {OLDEST_CAPABILITY[0]}.0, got {capability[0]}.{capability[1]}"
    return ""


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@cache
def _log_choice(kernel: str, chosen: str, *, slow: bool) -> None:
    note = " (native library not built: slow)" if slow else ""
    _log.log(logging.WARNING if slow else logging.INFO, "kernel %s: backend %s%s", kernel, chosen, note)
