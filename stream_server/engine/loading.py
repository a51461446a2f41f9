"""Loads the pipeline: the trained avatar, or for tests a class named on the command line."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_server.avatar_folders import Catalogue
from stream_server.config import ServerConfig
from stream_server.engine.avatar_shelf import AvatarShelf
from stream_server.engine.controls import ControlsMaker
from stream_server.errors import NotFoundError

__all__ = ["HopOutputLike", "Loaded", "PipelineLike", "describe", "load", "step_in_parts"]

log = logging.getLogger(__name__)

NUM_ARKIT = 52
_CPU_MOST_HOPS, _GPU_MOST_HOPS = 8, 32
"""Hops of one step at most: on a GPU as many as its graphs have slots."""
_STEPS = 12
_WARM_UP_STEPS = 3
_MODULES = ("torch", "model.pipeline", "model.capacity", "model.provenance.consent", "model.provenance.marker")
_GPU_BATCH_WAIT_S = 0.008
"""Hops of several sessions in one step cost a GPU hardly more than one; a CPU gains little, and starts at once."""


class HopOutputLike(Protocol):
    """`model.pipeline.HopOutput`, as far as the engine reads it."""

    first_frame: int
    frames: NDArray[np.uint8]
    motion: NDArray[np.float32]
    head_deg: NDArray[np.float32] | None
    stage_ms: dict[str, float]


class PipelineLike(Protocol):
    """`model.pipeline.AvatarPipeline`, as far as the engine drives it."""

    spec: Any
    shown: Any
    mouth_box: tuple[float, float, float, float]
    arkit_names: Sequence[str]

    def load_shown(self, avatar: Path | str) -> Any: ...

    def new_state(self, seed: int, *, shown: Any = None, first_frame: int = 0) -> Any: ...

    def arkit(self, motion: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def step(
        self, audio: NDArray[np.float32], controls: Sequence[Any], states: Sequence[Any]
    ) -> Sequence[HopOutputLike]: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A warm pipeline and what belongs to it. `step_ms` is one session's hop, 95th percentile."""

    pipeline: PipelineLike
    shelf: AvatarShelf
    make_controls: ControlsMaker
    held_fps: float
    step_ms: float
    batch_wait_s: float = 0.0
    most_hops: int = _CPU_MOST_HOPS

    def describe_motion(self, output: HopOutputLike) -> NDArray[np.float32]:
        """(n, 55): 52 ARKit coefficients, then the head's yaw, pitch and roll in degrees."""
        count = len(output.frames)
        if not count:
            return np.zeros((0, NUM_ARKIT + 3), np.float32)
        head = output.head_deg if output.head_deg is not None else np.zeros((count, 3), np.float32)
        return np.concatenate([self.pipeline.arkit(output.motion), head], axis=1)


def step_in_parts(
    pipeline: PipelineLike, audio: NDArray[np.float32], controls: Sequence[Any], states: Sequence[Any]
) -> Iterator[tuple[int, HopOutputLike, bool]]:
    """(row, frames, whether they are its last) as soon as they are made; whole hops where a pipeline knows no parts."""
    made_in_parts = getattr(pipeline, "step_in_parts", None)
    if made_in_parts is not None:
        yield from made_in_parts(audio, controls, states)
        return
    for row, output in enumerate(pipeline.step(audio, controls, states)):
        yield row, output, True


def import_model() -> None:
    """Import all that `load` will need, which takes seconds."""
    for name in _MODULES:
        importlib.import_module(name)


def load(config: ServerConfig) -> Loaded:
    """Load and warm up; choose the largest size this machine holds 25 fps at, unless `config.exact_size`."""
    import torch

    torch.set_num_threads(config.threads)
    catalogue = Catalogue.find(config.avatar, config.avatars, config.backgrounds)
    if config.pipeline is not None:
        pipeline, held_fps = _load_named(config, config.pipeline), 0.0
    else:
        pipeline, held_fps = _load_avatar(config, catalogue.avatars[catalogue.first])
    make_controls = ControlsMaker(catalogue.backgrounds)
    step_ms = _step_ms(pipeline, make_controls({}), _STEPS if config.step_ms is None else _WARM_UP_STEPS)
    step_ms = config.step_ms or step_ms

    def load_avatar(avatar_id: str) -> Any:
        if avatar_id not in catalogue.avatars:
            known = ", ".join(sorted(catalogue.avatars))
            raise NotFoundError(f"there is no avatar {avatar_id[:40]!r}; there is {known}")
        return _load_shown(pipeline, avatar_id, catalogue.avatars[avatar_id])

    shelf = AvatarShelf(catalogue.first, pipeline.shown, load_avatar, limit_bytes=config.avatar_memory_mb << 20)
    held_fps = held_fps or pipeline.spec.hop_frames * 1000.0 / step_ms
    wait_s = _GPU_BATCH_WAIT_S if config.device != "cpu" and torch.cuda.is_available() else 0.0
    most_hops = _GPU_MOST_HOPS if config.device == "cuda" else _CPU_MOST_HOPS
    return Loaded(pipeline, shelf, make_controls, held_fps, step_ms, wait_s, most_hops)


def _load_shown(pipeline: PipelineLike, avatar_id: str, folder: Path) -> Any:
    """An avatar; the error if it cannot be had goes to callers, who need not know where it lies."""
    from model.errors import ModelError

    try:
        return pipeline.load_shown(folder)
    except ModelError as error:
        log.warning("avatar %r: %s", avatar_id, error)
        raise ModelError(str(error).replace(str(folder), avatar_id)) from error


def describe(loaded: Loaded) -> dict[str, Any]:
    """What the worker and the page need to know, as plain JSON values."""
    spec = loaded.pipeline.spec
    return {
        "id": loaded.shelf.first_id,
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
        "mouth_box": [float(edge) for edge in loaded.pipeline.mouth_box],
        "arkit_names": list(loaded.pipeline.arkit_names),
        "synthetic": True,
    }


def _load_avatar(config: ServerConfig, folder: Path) -> tuple[PipelineLike, float]:
    pipeline_module = importlib.import_module("model.pipeline")
    marks = importlib.import_module("model.provenance.marker").MarkSettings(
        visible=config.visible_mark,
        text=config.mark_text,
        instance=config.mark_instance,
        key_file=_path(config.mark_key),
    )
    policy = importlib.import_module("model.provenance.consent").ConsentPolicy.read(
        _path(config.revoked), _path(config.trusted_keys)
    )

    place = _placement(config.device)

    def load_size(size: int) -> PipelineLike:
        loaded: PipelineLike = pipeline_module.AvatarPipeline.load(
            folder,
            models=_path(config.models),
            whisper=_path(config.whisper),
            size=size,
            steps=config.steps,
            threads=config.threads,
            temperature=config.temperature,
            backend=config.backend,
            instruction_set=config.instruction_set,
            device=place.encoder,
            marks=marks,
            consent_policy=policy,
            low_latency=config.low_latency,
        )
        return place.put(loaded)

    if config.exact_size:
        return load_size(config.size), 0.0
    sizes = tuple(size for size in (256, 192, 128) if size <= config.size)
    capacity = importlib.import_module("model.capacity").choose_size(load_size, sizes)
    return capacity.pipeline, float(capacity.fps)


@dataclass(frozen=True, slots=True)
class _Placement:
    """Where the encoder is loaded (None: where it runs best), and what is done with a loaded pipeline."""

    encoder: Any
    put: Callable[[Any], PipelineLike]


def _placement(device: str) -> _Placement:
    """What `--device` means. Raises ConfigError where there is no GPU that can be used."""
    torch = importlib.import_module("torch")
    if device != "cuda":
        return _Placement(torch.device("cpu") if device == "cpu" else None, lambda pipeline: pipeline)
    gpu = importlib.import_module("model.slots.devices").require_gpu()
    slots = importlib.import_module("model.slots.pipeline")

    def put(pipeline: Any) -> PipelineLike:
        moved: PipelineLike = slots.SlotPipeline(pipeline, device=gpu)
        slots.SlotPipeline.warm_up(moved)
        return moved

    return _Placement(torch.device("cpu"), put)


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)


def _load_named(config: ServerConfig, name: str) -> PipelineLike:
    module_name, _, attribute = name.partition(":")
    pipeline_class = getattr(importlib.import_module(module_name), attribute)
    pipeline: PipelineLike = pipeline_class.load(config.avatar, size=config.size, steps=config.steps)
    return pipeline


def _step_ms(pipeline: PipelineLike, controls: Any, steps: int) -> float:
    """95th percentile of a step's wall time after warm-up."""
    state = pipeline.new_state(0)
    noise = np.random.default_rng(0).normal(0.0, 0.05, (steps, 1, pipeline.spec.hop_samples)).astype(np.float32)
    times_ms = []
    for audio in noise:
        started_ns = time.monotonic_ns()
        pipeline.step(audio, [controls], [state])
        times_ms.append((time.monotonic_ns() - started_ns) / 1e6)
    return max(0.01, float(np.percentile(times_ms[_WARM_UP_STEPS - 1 :], 95)))
