"""A stand-in with the interface of `model.pipeline.AvatarPipeline`: a face-coloured disc with a dark bar for a
mouth, as open as the sound is loud. Only tests load it (`--pipeline tests.stream_server.fake_pipeline:FakePipeline`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Spec:
    """As `model.pipeline.PipelineSpec`."""

    size: int = 256
    fps: int = 25
    sample_rate: int = 16000
    hop_frames: int = 2
    hop_samples: int = 1280
    lookahead_frames: int = 2
    avatar: str = "test-double"
    instruction_set: str = "none"


@dataclass
class State:
    """As `model.state.StreamState`."""

    hop: int = 0
    tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1280, np.float32))


@dataclass
class Output:
    """As `model.state.HopOutput`."""

    first_frame: int
    frames: NDArray[np.uint8]
    motion: NDArray[np.float32]
    stage_ms: dict[str, float]


class FakePipeline:
    """Same timing contract as the real one: hop h yields frames 2h - 2 and 2h - 1."""

    mouth_box = (0.3, 0.6, 0.7, 0.9)
    step_s = 0.0

    def __init__(self, size: int) -> None:
        self.spec = Spec(size=size)
        self._base = _face(size)

    @classmethod
    def load(cls, avatar: Any = None, *, size: int = 256, steps: int = 2, **_: Any) -> FakePipeline:
        return cls(size)

    def new_state(self, seed: int) -> State:
        return State()

    def step(self, audio: NDArray[np.float32], controls: Sequence[Any], states: Sequence[State]) -> list[Output]:
        return [self._one(samples, state) for samples, state in zip(audio, states, strict=True)]

    def _one(self, samples: NDArray[np.float32], state: State) -> Output:
        started = time.perf_counter()
        speech, state.tail = state.tail, samples.copy()
        first, state.hop = 2 * state.hop - 2, state.hop + 1
        if not np.isfinite(samples).all():
            raise ValueError("the sound is not finite")
        parts = speech.reshape(2, -1) if first >= 0 else np.zeros((0, 640), np.float32)
        frames = [self._draw(float(np.sqrt((part**2).mean()))) for part in parts]
        time.sleep(self.step_s)
        stack = np.stack(frames) if frames else np.zeros((0, *self._base.shape), np.uint8)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return Output(max(0, first), stack, np.zeros((len(frames), 32), np.float32), {"render": elapsed_ms})

    def _draw(self, loudness: float) -> NDArray[np.uint8]:
        frame = self._base.copy()
        size = self.spec.size
        opening = int(min(1.0, loudness * 6) * size * 0.12) + 1
        middle = int(size * 0.75)
        frame[middle - opening : middle + opening, int(size * 0.35) : int(size * 0.65)] = 30
        return frame


class SlowPipeline(FakePipeline):
    """Cannot keep up: half of real time."""

    step_s = 0.16


def _face(size: int) -> NDArray[np.uint8]:
    frame = np.full((size * 3 // 2, size), 128, np.uint8)
    y, x = np.mgrid[:size, :size] / size - 0.5
    frame[:size] = np.where(x**2 + y**2 < 0.2, 170, 60 + 40 * (y + 0.5))
    return frame
