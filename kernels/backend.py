"""Choose the implementation of a kernel from what is there, and say so once."""

from __future__ import annotations

import logging
from functools import cache
from typing import Literal, get_args

from kernels.checks import KernelInputError

Backend = Literal["auto", "reference", "cpu"]
Chosen = Literal["reference", "cpu"]

_log = logging.getLogger(__name__)


def choose_backend(kernel: str, backend: Backend, *, cpu_library: bool) -> Chosen:
    """Resolve ``"auto"``: the fused C++ library where it was built, else the reference.

    A backend that was asked for by name and is not there is an error, never a quiet fallback.

    Raises:
        KernelInputError: Unknown backend, or ``"cpu"`` without the library.
    """
    if backend not in get_args(Backend):
        raise KernelInputError(f"backend must be one of {get_args(Backend)}, got {backend!r}")
    if backend == "cpu" and not cpu_library:
        raise KernelInputError(f"{kernel}: backend 'cpu' asked for, but the native library is not built")
    chosen: Chosen = "cpu" if backend == "cpu" or (backend == "auto" and cpu_library) else "reference"
    _log_choice(kernel, chosen, backend)
    return chosen


@cache
def _log_choice(kernel: str, chosen: str, asked: str) -> None:
    level = logging.WARNING if asked == "auto" and chosen == "reference" else logging.INFO
    note = " (native library not built: slow)" if level == logging.WARNING else ""
    _log.log(level, "kernel %s: backend %s%s", kernel, chosen, note)
