"""The native layers behind ctypes. Structs mirror `NlsProduct` and `NlsAttention` of ray_march/csrc/abi.h."""

from __future__ import annotations

import ctypes
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING

from kernels.native import INSTRUCTION_SETS, check_status, instruction_set_index, load_library

if TYPE_CHECKING:
    from torch import Tensor

    from kernels.dense.reference import Activation, Norm

_ACTIVATIONS = {"none": 0, "silu": 1, "gelu": 2}


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "scale", "shift", "add")),
        ("epsilon", ctypes.c_float),
        *(
            (name, ctypes.c_int32)
            for name in ("scale_step", "batch", "frames", "channels", "taps", "stride", "before", "after")
        ),
    )


class _Attention(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "bias", "out")),
        *((name, ctypes.c_int64) for name in ("q_batch", "q_row", "k_batch", "k_row", "v_batch", "v_row")),
        *((name, ctypes.c_int32) for name in ("batch", "queries", "keys", "heads", "size")),
        ("scale", ctypes.c_float),
    )


class NativeTeam:
    """Threads that share one product at a time; the calling one is among them."""

    def __init__(self, threads: int) -> None:
        self._library = dense_library()
        self.lock = threading.Lock()
        self.handle = ctypes.c_void_p()
        check_status(self._library.nls_team_create(threads, ctypes.byref(self.handle)), "nls_team_create")
        weakref.finalize(self, self._library.nls_team_destroy, self.handle)


class NativeDense:
    """A packed copy of a matrix and its bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None, instruction_set: str, team: NativeTeam | None) -> None:
        isa = instruction_set_index(instruction_set)
        self.instruction_set = INSTRUCTION_SETS[isa]
        self._library = dense_library()
        self._team = team
        self._handle = ctypes.c_void_p()
        status = self._library.nls_dense_create(
            weight.data_ptr(), bias.data_ptr() if bias is not None else None, *weight.shape, isa,
            ctypes.byref(self._handle),
        )  # fmt: skip
        check_status(status, "nls_dense_create")
        weakref.finalize(self, self._library.nls_dense_destroy, self._handle)
        self.num_bytes = int(self._library.nls_dense_bytes(self._handle))

    def run(
        self, x: Tensor, y: Tensor, taps: int, stride: int, norm: Norm | None, before: Activation, after: Activation,
        add: Tensor | None,
    ) -> None:  # fmt: skip
        """Fill y; all checked."""
        call = _Product(
            x.data_ptr(),
            norm.scale.data_ptr() if norm is not None else None,
            norm.shift.data_ptr() if norm is not None else None,
            add.data_ptr() if add is not None else None,
            norm.epsilon if norm is not None else 0.0,
            x.shape[2] if norm is not None and norm.scale.ndim == 2 else 0,
            *x.shape,
            taps,
            stride,
            _ACTIVATIONS[before],
            _ACTIVATIONS[after],
        )
        if self._team is None:
            status = self._library.nls_dense_run(self._handle, None, call, y.data_ptr())
        else:
            with self._team.lock:
                status = self._library.nls_dense_run(self._handle, self._team.handle, call, y.data_ptr())
        if status:
            check_status(status, "nls_dense_run")


def attend_native(
    query: Tensor, key: Tensor, value: Tensor, num_heads: int, bias: Tensor | None, scale: float, out: Tensor, isa: int
) -> None:
    """Fill out; all checked."""
    call = _Attention(
        query.data_ptr(),
        key.data_ptr(),
        value.data_ptr(),
        bias.data_ptr() if bias is not None else None,
        out.data_ptr(),
        *query.stride()[:2],
        *key.stride()[:2],
        *value.stride()[:2],
        len(query),
        query.shape[1],
        key.shape[1],
        num_heads,
        query.shape[2] // num_heads,
        scale,
    )
    status = dense_library().nls_attend(call, isa)
    if status:
        check_status(status, "nls_attend")


@cache
def dense_library() -> ctypes.CDLL:
    """The native library with its functions' types."""
    library = load_library()
    handle, number = ctypes.c_void_p, ctypes.c_int32
    library.nls_team_create.argtypes = (number, ctypes.POINTER(handle))
    library.nls_dense_create.argtypes = (handle, handle, number, number, number, ctypes.POINTER(handle))
    library.nls_dense_bytes.argtypes, library.nls_dense_bytes.restype = (handle,), ctypes.c_int64
    library.nls_dense_run.argtypes = (handle, handle, ctypes.POINTER(_Product), handle)
    library.nls_attend.argtypes = (ctypes.POINTER(_Attention), number)
    for function in (library.nls_team_destroy, library.nls_dense_destroy):
        function.argtypes, function.restype = (handle,), None
    return library
