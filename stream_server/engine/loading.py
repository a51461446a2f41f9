"""Loads the pipeline: the trained avatar, or for tests a class named on the command line."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_server.config import ServerConfig

__all__ = ["HopOutputLike", "Loaded", "PipelineLike", "describe", "load"]


class HopOutputLike(Protocol):
    """`model.pipeline.HopOutput`, as far as the engine reads it."""

    first_frame: int
    frames: NDArray[np.uint8]
    stage_ms: dict[str, float]


class PipelineLike(Protocol):
    """`model.pipeline.AvatarPipeline`, as far as the engine drives it."""

    spec: Any

    def new_state(self, seed: int) -> Any: ...

    def step(
        self, audio: NDArray[np.float32], controls: Sequence[Any], states: Sequence[Any]
    ) -> Sequence[HopOutputLike]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A warm pipeline, what it costs, how to make neutral controls for it, and where its mouth is.

    `mouth_box` is x0, y0, x1, y1 as shares of the picture.
    """

    pipeline: PipelineLike
    held_fps: float
    step_ms: float
    neutral_controls: Callable[[], Any]
    mouth_box: tuple[float, float, float, float]


def load(config: ServerConfig) -> Loaded:
    """Load and warm up; choose the largest size this machine holds 25 fps at."""
    import torch

    torch.set_num_threads(config.threads)
    if config.pipeline is not None:
        return _load_named(config, config.pipeline)
    return _load_avatar(config)


def describe(loaded: Loaded) -> dict[str, Any]:
    """What the worker and the page need to know, as plain JSON values."""
    spec = loaded.pipeline.spec
    return {
        "name": str(spec.avatar),
        "size": int(spec.size),
        "fps": int(spec.fps),
        "sample_rate": int(spec.sample_rate),
        "hop_frames": int(spec.hop_frames),
        "hop_samples": int(spec.hop_samples),
        "lookahead_frames": int(spec.lookahead_frames),
        "instruction_set": str(spec.instruction_set),
        "held_fps": round(loaded.held_fps, 1),
        "step_ms": round(loaded.step_ms, 2),
        "mouth_box": list(loaded.mouth_box),
        "synthetic": True,
    }


def _load_avatar(config: ServerConfig) -> Loaded:
    capacity_module = importlib.import_module("model.capacity")
    pipeline_module = importlib.import_module("model.pipeline")

    def load_size(size: int) -> PipelineLike:
        loaded: PipelineLike = pipeline_module.AvatarPipeline.load(
            config.avatar,
            models=_path(config.models),
            whisper=_path(config.whisper),
            size=size,
            steps=config.steps,
            threads=config.threads,
            temperature=config.temperature,
            backend=config.backend,
        )
        return loaded

    sizes = tuple(size for size in (256, 192, 128) if size <= config.size)
    capacity = capacity_module.choose_size(load_size, sizes)
    controls: Callable[[], Any] = importlib.import_module("model.state").Controls
    step_ms = _step_ms(capacity.pipeline, controls)
    return Loaded(capacity.pipeline, float(capacity.fps), step_ms, controls, _mouth_box(config.avatar))


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)


def _mouth_box(avatar: str | None) -> tuple[float, float, float, float]:
    avatar_module = importlib.import_module("model.avatar")
    folder = avatar_module.DEFAULT_AVATAR if avatar is None else Path(avatar)
    x0, y0, x1, y1 = (float(edge) for edge in avatar_module.read_avatar_config(folder).mouth_box)
    return x0, y0, x1, y1


def _load_named(config: ServerConfig, name: str) -> Loaded:
    module_name, _, attribute = name.partition(":")
    pipeline_class = getattr(importlib.import_module(module_name), attribute)
    pipeline: PipelineLike = pipeline_class.load(config.avatar, size=config.size, steps=config.steps)
    step_ms = _step_ms(pipeline, lambda: None)
    return Loaded(
        pipeline, pipeline.spec.hop_frames * 1000.0 / step_ms, step_ms, lambda: None, pipeline_class.mouth_box
    )


def _step_ms(pipeline: PipelineLike, controls: Callable[[], Any], steps: int = 12) -> float:
    """95th percentile of a step's wall time after warm-up."""
    state = pipeline.new_state(0)
    noise = np.random.default_rng(0).normal(0.0, 0.05, (steps, 1, pipeline.spec.hop_samples)).astype(np.float32)
    times_ms = []
    for audio in noise:
        started_ns = time.monotonic_ns()
        pipeline.step(audio, [controls()], [state])
        times_ms.append((time.monotonic_ns() - started_ns) / 1e6)
    return max(0.01, float(np.percentile(times_ms[2:], 95)))
