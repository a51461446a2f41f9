"""Public call of the ray marcher: one object per avatar, one call per frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend, Chosen, choose_backend, triton_problem
from kernels.checks import KernelInputError, check_range
from kernels.native import cpu_info
from kernels.ray_march.arrays import FieldArrays, FrameInputs, check_output
from kernels.ray_march.cpu_impl import CpuScene, RenderStats
from kernels.ray_march.reference import render_reference

if TYPE_CHECKING:
    from kernels.ray_march.prepared import Precision, PreparedField

MAX_THREADS = 64


class RayMarcher:
    """Renders one avatar's field. Weights, distance field and threads are prepared once, here.

    Args:
        field: Copied; it may be dropped afterwards (the reference backend keeps it).
        threads: Workers of the "cpu" backend, the caller included. They are started here, so create the
            object after any fork.
        backend: "auto" takes "triton" on a CUDA device that is named, else "cpu" where the native library was built.
        instruction_set: "auto" or a name from ``cpu_info().instruction_sets``; only for "cpu".
        device: Torch device of the "triton" backend; None takes the first GPU if that backend is asked for by name.
        precision: "fp16", "bf16" or "fp32" weights and activations of the "triton" backend.

    Raises:
        KernelInputError: A backend or instruction set that is not here, a bad thread count or precision.
    """

    def __init__(
        self,
        field: FieldArrays,
        *,
        threads: int = 1,
        backend: Backend = "auto",
        instruction_set: str = "auto",
        device: str | None = None,
        precision: Precision = "fp16",
    ) -> None:
        check_range("threads", threads, 1, MAX_THREADS)
        if device is None and backend == "triton":
            device = "cuda"
        problem = _triton_problem(device, backend)
        self.backend: Chosen = choose_backend("ray_march", backend, cpu_library=cpu_info().built, triton=problem)
        self.threads = threads
        self.render_stats: RenderStats | None = None  # of the last frame
        self._field = field
        self._scene: CpuScene | None = None
        self.prepared: PreparedField | None = None  # of the "triton" backend, for `render_batch`
        if self.backend == "cpu":
            self._scene = CpuScene(field, threads=threads, instruction_set=instruction_set)
            del self._field
        elif instruction_set not in ("auto", self.backend):
            raise KernelInputError(f"the {self.backend} backend has no instruction set, got {instruction_set!r}")
        if self.backend == "triton":
            from kernels.ray_march.prepared import PreparedField

            self.prepared = PreparedField(field, str(device), precision=precision)
            del self._field

    @property
    def instruction_set(self) -> str:
        """What runs: a name from ``cpu_info().instruction_sets``, "reference" or "triton"."""
        return self._scene.instruction_set if self._scene else self.backend

    def render(
        self, frame: FrameInputs, out: NDArray[np.float32] | None = None, *, profile: bool = False
    ) -> NDArray[np.float32]:
        """Render one frame.

        Args:
            out: Optional (H, W, 4) float32 buffer; every pixel is overwritten.
            profile: Also fill the times of ``render_stats`` (costs a few percent); "cpu" only.

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
        elif self.prepared:
            self.render_stats = _render_triton(self.prepared, frame, out)
        else:
            image = render_reference(self._field, frame)
            out[...] = image.rgba
            self.render_stats = RenderStats(samples=image.samples, rays=frame.height * frame.width)
        return out


def _triton_problem(device: str | None, backend: Backend) -> str:
    """Why Triton cannot run on a device, "" if it can; imports torch only where a device is named."""
    if device is None:
        return "no device is named"
    import torch

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA GPU"
    return triton_problem(torch.device(device), backend)


def _render_triton(prepared: PreparedField, frame: FrameInputs, out: NDArray[np.float32]) -> RenderStats:
    """One frame up and down; sessions that share a GPU use `render_batch`, which leaves pictures there."""
    from kernels.ray_march.batch import render_batch, upload_slot

    pictures = render_batch([upload_slot(prepared, frame)], frame.height, frame.width, count_samples=True)
    out[...] = pictures.rgba[0].cpu().numpy()
    samples = 0 if pictures.samples is None else int(pictures.samples.sum())
    return RenderStats(samples=samples, rays=frame.height * frame.width)
