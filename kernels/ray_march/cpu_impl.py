"""The fused C++ ray marcher (csrc/) behind ctypes. Structs mirror csrc/abi.h field by field."""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.native import INSTRUCTION_SETS, check_status, instruction_set_index, load_library
from kernels.ray_march.arrays import FieldArrays, FrameInputs


class _Field(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("planes", "w1", "w2", "w3", "b3", "occupancy", "matter")),
        *((name, ctypes.c_int32) for name in ("plane_side", "grid", "matter_grid")),
        *((name, ctypes.c_float * 3) for name in ("box_lo", "box_hi", "warp_lo", "warp_hi")),
        *((name, ctypes.c_float) for name in ("density_scale", "step", "termination")),
    )


class _Frame(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bias1", "bias2", "warp")),
        ("warp_nodes", ctypes.c_int32 * 3),
        ("cam_to_canonical", ctypes.c_float * 12),
        *((name, ctypes.c_float) for name in ("fx", "fy", "cx", "cy")),
        *((name, ctypes.c_int32) for name in ("height", "width", "profile")),
    )


class _Stats(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("samples", "rays", "march_steps")),
        *((f"{name}_ns", ctypes.c_int64) for name in ("occupancy", "march", "features", "mlp", "composite")),
    )


@dataclass(frozen=True, slots=True)
class RenderStats:
    """Work of one frame. Times are CPU times, summed over threads, and zero unless the frame was profiled."""

    samples: int  # field evaluations
    rays: int  # rays that could meet matter
    occupancy_ms: float = 0.0  # which voxels the frame needs
    march_ms: float = 0.0
    features_ms: float = 0.0
    mlp_ms: float = 0.0
    composite_ms: float = 0.0


class CpuScene:
    """One field in native memory. Holds no reference to the field's arrays; safe to share among threads."""

    def __init__(self, field: FieldArrays, *, threads: int, instruction_set: str) -> None:
        isa = instruction_set_index(instruction_set)
        self.instruction_set = INSTRUCTION_SETS[isa]
        self._library = _scene_library()
        self._lock = threading.Lock()
        self._grid = len(field.occupancy)
        self._handle = ctypes.c_void_p()
        packed = _pack_field(field)
        status = self._library.nls_scene_create(ctypes.byref(packed), isa, threads, ctypes.byref(self._handle))
        check_status(status, "nls_scene_create")

    def render(self, frame: FrameInputs, out: NDArray[np.float32], *, profile: bool = False) -> RenderStats:
        """Render into ``out`` (H, W, 4); every pixel is written."""
        packed, stats = _pack_frame(frame, profile), _Stats()
        with self._lock:
            status = self._library.nls_scene_render(
                self._handle, ctypes.byref(packed), ctypes.c_void_p(out.ctypes.data), ctypes.byref(stats)
            )
        check_status(status, "nls_scene_render")
        return RenderStats(
            samples=stats.samples,
            rays=stats.rays,
            occupancy_ms=stats.occupancy_ns / 1e6,
            march_ms=stats.march_ns / 1e6,
            features_ms=stats.features_ns / 1e6,
            mlp_ms=stats.mlp_ns / 1e6,
            composite_ms=stats.composite_ns / 1e6,
        )

    def frame_occupancy(self, frame: FrameInputs) -> NDArray[np.bool_]:
        """(G, G, G): the voxels in which `frame` looks for matter (`kernels.ray_march.frame_occupancy`)."""
        packed, kept = _pack_frame(frame, profile=False), np.empty((self._grid,) * 3, np.bool_)
        with self._lock:
            status = self._library.nls_scene_occupancy(
                self._handle, ctypes.byref(packed), ctypes.c_void_p(kept.ctypes.data)
            )
        check_status(status, "nls_scene_occupancy")
        return kept

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle:
            self._library.nls_scene_destroy(handle)
            self._handle = ctypes.c_void_p()


def _scene_library() -> ctypes.CDLL:
    library = load_library()
    pointer = ctypes.POINTER
    library.nls_scene_create.argtypes = (
        pointer(_Field), ctypes.c_int32, ctypes.c_int32, pointer(ctypes.c_void_p)
    )  # fmt: skip
    library.nls_scene_destroy.argtypes = (ctypes.c_void_p,)
    library.nls_scene_destroy.restype = None
    library.nls_scene_render.argtypes = (ctypes.c_void_p, pointer(_Frame), ctypes.c_void_p, pointer(_Stats))
    library.nls_scene_occupancy.argtypes = (ctypes.c_void_p, pointer(_Frame), ctypes.c_void_p)
    return library


def _pack_field(field: FieldArrays) -> _Field:
    packed = _Field()
    for name in ("planes", "w1", "w2", "w3", "b3", "occupancy"):
        setattr(packed, name, getattr(field, name).ctypes.data)
    if field.matter is not None:
        packed.matter, packed.matter_grid = field.matter.ctypes.data, len(field.matter)
    packed.plane_side, packed.grid = field.planes.shape[1], field.occupancy.shape[0]
    box = field.occupied_box() or (np.zeros(3, np.float32), np.zeros(3, np.float32))
    corners: dict[str, NDArray[Any]] = {
        "box_lo": box[0], "box_hi": box[1], "warp_lo": field.warp_lo, "warp_hi": field.warp_hi
    }  # fmt: skip
    for name, corner in corners.items():
        getattr(packed, name)[:] = corner.tolist()
    packed.density_scale, packed.step, packed.termination = field.density_scale, field.step, field.termination
    return packed


def _pack_frame(frame: FrameInputs, profile: bool) -> _Frame:
    packed = _Frame()
    for name in ("bias1", "bias2", "warp"):
        setattr(packed, name, getattr(frame, name).ctypes.data)
    packed.warp_nodes[:] = frame.warp.shape[:3]
    packed.cam_to_canonical[:] = frame.cam_to_canonical.ravel().tolist()
    packed.fx, packed.fy, packed.cx, packed.cy = frame.fx, frame.fy, frame.cx, frame.cy
    packed.height, packed.width, packed.profile = frame.height, frame.width, profile
    return packed
