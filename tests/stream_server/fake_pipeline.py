"""A stand-in with the interface of `model.pipeline.AvatarPipeline`: a face-coloured disc with a dark bar for a
mouth, as open as the sound is loud. Only tests load it (`--pipeline tests.stream_server.fake_pipeline:FakePipeline`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
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


@dataclass(frozen=True)
class Shown:
    """As `model.state.ShownAvatar`; `skin` is the disc's brightness."""

    name: str = "test-double"
    skin: int = 170
    size_bytes: int = 1000


@dataclass
class State:
    """As `model.state.StreamState`."""

    shown: Shown
    hop: int = 0
    first_hop: int = 0
    tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(1280, np.float32))

    def interrupt(self) -> None:
        """The mouth shuts."""
        self.tail[:] = 0.0

    def snapshot(self) -> State:
        """A copy that goes its own way."""
        return replace(self, tail=self.tail.copy())


@dataclass
class Output:
    """As `model.state.HopOutput`."""

    first_frame: int
    frames: NDArray[np.uint8]
    motion: NDArray[np.float32]
    stage_ms: dict[str, float]
    head_deg: NDArray[np.float32]


class FakePipeline:
    """Same timing contract as the real one: hop h yields frames 2h - 2 and 2h - 1."""

    mouth_box = (0.3, 0.6, 0.7, 0.9)
    arkit_names = tuple(f"arkit{i}" for i in range(52))
    step_s = 0.0

    def __init__(self, size: int) -> None:
        self.spec = Spec(size=size)
        self.shown = Shown()

    @classmethod
    def load(cls, avatar: Any = None, *, size: int = 256, steps: int = 2, **_: Any) -> FakePipeline:
        return cls(size)

    def load_shown(self, avatar: Path | str) -> Shown:
        """A folder's name ends in its brightness; one that says `broken` cannot be loaded."""
        name = Path(avatar).name
        if "broken" in name:
            raise ValueError(f"{name}: field.safetensors is damaged")
        digits = name.rpartition("-")[2]
        return Shown(name, int(digits) if digits.isdigit() else 170)

    def arkit(self, motion: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.repeat(motion[:, :1], 52, axis=1)

    def new_state(self, seed: int, *, shown: Shown | None = None, first_frame: int = 0) -> State:
        hop = first_frame // self.spec.hop_frames
        return State(shown or self.shown, hop, hop)

    def step(self, audio: NDArray[np.float32], controls: Sequence[Any], states: Sequence[State]) -> list[Output]:
        rows = zip(audio, controls, states, strict=True)
        return [self._one(samples, control, state) for samples, control, state in rows]

    def _one(self, samples: NDArray[np.float32], control: Any, state: State) -> Output:
        started = time.perf_counter()
        speech, state.tail = state.tail, samples.copy()
        first, state.hop = 2 * state.hop - 2, state.hop + 1
        if not np.isfinite(samples).all():
            raise ValueError("the sound is not finite")
        made = first >= 2 * state.first_hop
        parts = speech.reshape(2, -1) if made else np.zeros((0, 640), np.float32)
        loudness = [float(np.sqrt((part**2).mean())) for part in parts]
        yaw_deg = 0.0 if control is None else float(control.yaw_deg)
        frames = [self._draw(value, state.shown.skin) for value in loudness]
        time.sleep(self.step_s)
        size = self.spec.size
        stack = np.stack(frames) if frames else np.zeros((0, size * 3 // 2, size), np.uint8)
        motion = np.repeat(np.array(loudness, np.float32)[:, None], 32, axis=1).reshape(-1, 32)
        head = np.repeat(np.array([[yaw_deg, 0.0, 0.0]], np.float32), len(frames), axis=0)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        return Output(max(0, first), stack, motion, {"render": elapsed_ms}, head)

    def _draw(self, loudness: float, skin: int = 170) -> NDArray[np.uint8]:
        frame = _face(self.spec.size, skin)
        size = self.spec.size
        opening = int(min(1.0, loudness * 6) * size * 0.12) + 1
        middle = int(size * 0.75)
        frame[middle - opening : middle + opening, int(size * 0.35) : int(size * 0.65)] = 30
        return frame


class SlowPipeline(FakePipeline):
    """Cannot keep up: half of real time."""

    step_s = 0.16


class GatedPipeline(FakePipeline):
    """An avatar whose name says `gated` is loaded when the FIFO that `LOAD_GATE` names is opened for writing."""

    def load_shown(self, avatar: Path | str) -> Shown:
        if "gated" in Path(avatar).name:
            Path(os.environ["LOAD_GATE"]).read_bytes()
        return super().load_shown(avatar)


@cache
def _base(size: int, skin: int) -> NDArray[np.uint8]:
    frame = np.full((size * 3 // 2, size), 128, np.uint8)
    y, x = np.mgrid[:size, :size] / size - 0.5
    frame[:size] = np.where(x**2 + y**2 < 0.2, skin, 60 + 40 * (y + 0.5))
    return frame


def _face(size: int, skin: int) -> NDArray[np.uint8]:
    return _base(size, skin).copy()
