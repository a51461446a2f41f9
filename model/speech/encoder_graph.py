"""A speech model behind one call for any number of sessions: on a GPU by CUDA graphs, on a CPU by `kernels.dense`.

A hop of one session is hundreds of small kernels: launching them costs more than running them. A captured graph is
launched whole, but for one batch shape only, so there is one for each slot size and batches are padded to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from kernels.native import cpu_info
from model.speech.folded_encoder import FoldedEncoder
from model.speech.speech_model import Encode, SpeechModel
from model.speech.whisper_encoder import Precision, best_precision

SLOTS: Final = (1, 2, 4, 8, 16, 32)
"""Batch sizes that are captured. Larger batches are cut."""
WARM_UP_CALLS: Final = 3

Compute = Callable[[Tensor], Tensor]
Capture = Callable[[Compute, Tensor], Compute]
"""Turns a function into one for the given example's shape only, whose result is valid until the next call."""


def best_device() -> torch.device:
    """The CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def serving_precision(device: torch.device, instruction_set: str = "auto") -> Precision:
    """The encoder's fastest: where the native library serves it, fp32, which it does sooner than PyTorch bf16 with
    AVX512-BF16 (`products_cpu_avx512.json`), but hardly sooner than with AMX."""
    amx = torch.cpu.get_capabilities().get("amx_bf16") and instruction_set == "auto"
    if device.type == "cpu" and cpu_info().built and not amx:
        return "fp32"
    return best_precision(device)


class BatchedSpeech:
    """Features of the last frames of windows, (B, columns, mels) to (B, last_frames, 256), both fp32 on the CPU.

    Runs where the model's weights are. On a CPU an encoder in fp32 is folded once, when this is made, for the native
    library's level `instruction_set` if that library is built; one in bf16 runs as it stands.
    """

    def __init__(
        self,
        model: SpeechModel,
        *,
        last_frames: int,
        capture: Capture | None = None,
        instruction_set: str = "auto",
    ) -> None:
        self.device = model.layer_mix.device
        self.last_frames = last_frames
        self._model = model.eval()
        self._capture = capture or (CudaCapture() if self.device.type == "cuda" else None)
        self._captured: dict[int, Compute] = {}
        self._encode: Encode = self._model.encoder
        if self.device.type == "cpu" and model.encoder.precision == "fp32" and cpu_info().built:
            self._encode = FoldedEncoder(model.encoder, instruction_set=instruction_set)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Capture all slots, which takes seconds; a slot that was not captured is at its first use."""
        if self._capture:
            for slot in reversed(SLOTS):  # the largest first: the smaller ones fit into its memory
                self._slot(slot)

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> Tensor:
        """Compute all rows; each depends on its own window only."""
        if self._capture is None:
            return self._compute(windows)
        parts = torch.split(windows, SLOTS[-1])
        return torch.cat([self._padded(part) for part in parts])

    def _padded(self, windows: Tensor) -> Tensor:
        count = len(windows)
        slot = next(size for size in SLOTS if size >= count)
        whole = torch.zeros(slot, *windows.shape[1:])
        whole[:count] = windows
        return self._slot(slot)(whole)[:count].to("cpu", copy=True)

    def _slot(self, slot: int) -> Compute:
        if slot not in self._captured:
            assert self._capture is not None
            encoder = self._model.config.encoder
            example = torch.zeros(slot, encoder.window_columns, encoder.num_mels, device=self.device)
            self._captured[slot] = self._capture(self._compute, example)
        return self._captured[slot]

    def _compute(self, windows: Tensor) -> Tensor:
        return self._model(windows, last_frames=self.last_frames, encode=self._encode).features  # type: ignore[no-any-return]


class CudaCapture:
    """Captures functions as CUDA graphs that share one pool of memory: only one's result is valid at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute, example: Tensor) -> Compute:
        """Warm `compute` up on a side stream, as graphs demand, capture it, and return its replay."""
        held = example.clone()
        side = torch.cuda.Stream(held.device)
        side.wait_stream(torch.cuda.current_stream(held.device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                compute(held)
        torch.cuda.current_stream(held.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = compute(held)

        def replay(windows: Tensor) -> Tensor:
            held.copy_(windows)
            graph.replay()
            return result

        return replay
