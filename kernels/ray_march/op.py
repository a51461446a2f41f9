"""Public call of the ray marcher: one object per avatar, one call per frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend, Chosen, choose_backend
from kernels.checks import KernelInputError, check_range
from kernels.native import cpu_info
from kernels.ray_march import calibration
from kernels.ray_march.arrays import FieldArrays, FrameInputs, check_output
from kernels.ray_march.cpu_impl import CpuScene, RenderStats
from kernels.ray_march.reference import render_reference

MAX_THREADS = 64


class RayMarcher:
    """Renders one avatar's field. Weights, distance field and threads are prepared once, here.

    Args:
        field: Copied; it may be dropped afterwards (the reference backend keeps it).
        threads: Workers of the "cpu" backend, the caller included. They are started here, so create the
            object after any fork.
        backend: "auto" takes "cpu" where the native library was built.
        instruction_set: A name from ``cpu_info().instruction_sets``, or "auto": the fastest that is exact enough
            for this field (`calibration`). Only for "cpu".
        sample: A typical small frame for that check.

    Raises:
        KernelInputError: A backend or instruction set that is not here, or a bad thread count.
    """

    def __init__(
        self,
        field: FieldArrays,
        *,
        threads: int = 1,
        backend: Backend = "auto",
        instruction_set: str = "auto",
        sample: FrameInputs | None = None,
    ) -> None:
        check_range("threads", threads, 1, MAX_THREADS)
        self.backend: Chosen = choose_backend("ray_march", backend, cpu_library=cpu_info().built)
        self.threads = threads
        self.render_stats: RenderStats | None = None  # of the last frame
        self._field = field
        self._scene: CpuScene | None = None
        if self.backend == "cpu":
            if instruction_set == "auto":
                self._scene = calibration.prepare_scene(field, threads=threads, sample=sample)
            else:
                self._scene = CpuScene(field, threads=threads, instruction_set=instruction_set)
            del self._field
        elif instruction_set not in ("auto", "reference"):
            raise KernelInputError(f"the reference backend has no instruction set, got {instruction_set!r}")

    @property
    def instruction_set(self) -> str:
        """What runs: a name from ``cpu_info().instruction_sets``, or "reference"."""
        return self._scene.instruction_set if self._scene else "reference"

    def render(
        self, frame: FrameInputs, out: NDArray[np.float32] | None = None, *, profile: bool = False
    ) -> NDArray[np.float32]:
        """Render one frame.

        Args:
            out: Optional (H, W, 4) float32 buffer; every pixel is overwritten.
            profile: Also fill the times of ``render_stats`` (costs a few percent).

        Returns:
            Premultiplied RGBA, float32 (H, W, 4), 0..1; ``out`` if it was given.

        Raises:
            KernelInputError: ``out`` does not fit the frame.
        """
        if out is None:
            out = np.empty((frame.height, frame.width, 4), np.float32)
        check_output(out, frame)
        if self._scene:
            self.render_stats = self._scene.render(frame, out, profile=profile)
        else:
            image = render_reference(self._field, frame)
            out[...] = image.rgba
            self.render_stats = RenderStats(samples=image.samples, rays=frame.height * frame.width)
        return out
