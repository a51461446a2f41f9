"""A stand-in that runs out of the GPU's memory once, when the file named by `FAIL_ONCE_FILE` is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.stream_server.fake_pipeline import FakePipeline, Output, State


class OutOfMemoryPipeline(FakePipeline):
    """One step fails as PyTorch does when an allocation does; the file is taken away."""

    def step(self, audio: NDArray[np.float32], controls: Sequence[Any], states: Sequence[State]) -> list[Output]:
        file = Path(os.environ["FAIL_ONCE_FILE"])
        if file.exists():
            file.unlink()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().step(audio, controls, states)
