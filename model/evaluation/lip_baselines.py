"""Controls of every lips evaluation: what simpler means than the served model make of the same sound.

| row | what it is | what it shows |
|---|---|---|
| static | the mean mouth of GRID train, still | what a score gives for nothing |
| energy | a linear map of log energy, fitted on GRID train | how far loudness alone goes |
| retrieval | the motion of the nearest log-mel window of GRID train, frame by frame | memory without a model |
| regressor, log-mel | two-layer net on 400 ms past and 80 ms ahead, least squares | what regression gets |
| regressor, features | the same on the served encoder's features | what encoder and diffusion add or cost |

All are fitted on tracked motion of GRID train and see no more sound than the served model (80 ms ahead). They make the
mouth's 16 codes; what does not belong to the mouth stays at rest. Shuffled phonemes are in `model.evaluation.lips`,
which needs the served model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.features import ClipFeatures
from model.errors import DataError
from model.evaluation.hearing import FRAME_SAMPLES, hear
from model.evaluation.speech_motion import (
    MEL_AHEAD_FRAMES,
    RegressionClip,
    Regressor,
    RegressorConfig,
    fit_regressor,
    neighbours,
)
from model.motion.space import MOTION_SIZE, MOUTH_CODES
from model.speech.speech_model import COLUMNS_PER_FRAME
from model.speech.stream import SpeechFeatures

QUIET_POWER: Final = 1e-6
RETRIEVAL: Final = RegressorConfig(past_frames=6, ahead_frames=MEL_AHEAD_FRAMES)
"""The window that is compared: 240 ms before the frame to 80 ms after it."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class SpokenClip:
    """A filmed clip of T frames as controls see it."""

    key: str
    motion: Array  # (T, 32) tracked
    energy: Array  # (T,) log10 mean power of each frame
    mel: Array  # (T, 4 * bands) normalised log-mel columns
    features: Array  # (T, 256) as the served encoder commits them


class Control(Protocol):
    """Something fitted that makes motion."""

    def motion(self, clip: SpokenClip) -> Array:
        """Motion (T, 32) made from the clip's sound."""


def spoken_clips(
    clips: Sequence[ClipFeatures], motion: Mapping[str, Array], speech: SpeechFeatures
) -> list[SpokenClip]:
    """Hear prepared clips; `motion` (T, 32) by key.

    Raises:
        DataError: A clip's motion is not as long as its sound.
    """
    out = []
    for clip, heard in zip(clips, hear([c.sound for c in clips], speech), strict=True):
        moved = motion[clip.key]
        if len(moved) != len(heard.features):
            raise DataError(f"{clip.key} has {len(moved)} frames and sound for {len(heard.features)}; prepare it again")
        out.append(SpokenClip(clip.key, moved, frame_energy(clip.sound, len(moved)), heard.mel, heard.features))
    return out


def frame_energy(sound: Array, frames: int) -> Array:
    """log10 of each frame's mean power (T,); sound (samples,), -1..1, 16 kHz, missing samples count as silence."""
    whole = np.pad(sound, (0, max(0, frames * FRAME_SAMPLES - len(sound))))[: frames * FRAME_SAMPLES]
    power = np.square(whole, dtype=np.float64).reshape(frames, FRAME_SAMPLES).mean(1)
    return np.asarray(np.log10(power + QUIET_POWER), np.float32)


def fit_controls(train: Sequence[SpokenClip], *, seed: int = 0) -> dict[str, Control]:
    """All controls by row name, fitted on the same clips; equal seeds give equal ones.

    Raises:
        DataError: There is no clip.
    """
    if not train:
        raise DataError("no clips to fit the controls on; give the prepared GRID train folder")
    return {
        "static": StaticMouth.fit(train),
        "energy": EnergyMap.fit(train),
        "retrieval": Retrieval.fit(train),
        "regressor, log-mel": FrameRegressor.fit(train, "mel", seed=seed),
        "regressor, features": FrameRegressor.fit(train, "features", seed=seed),
    }


@dataclass(frozen=True)
class StaticMouth:
    """The mean mouth of all training frames, whatever is said."""

    codes: NDArray[np.float64]  # (16,)

    @classmethod
    def fit(cls, train: Sequence[SpokenClip]) -> StaticMouth:
        """The mean over frames."""
        return cls(_mouths(train).mean(0))

    def motion(self, clip: SpokenClip) -> Array:
        """The same frame, T times."""
        return _as_motion(np.tile(self.codes, (len(clip.motion), 1)))


@dataclass(frozen=True)
class EnergyMap:
    """Mouth codes as a linear function of the frame's log energy, least squares."""

    offset: NDArray[np.float64]  # (16,)
    slope: NDArray[np.float64]  # (16,)

    @classmethod
    def fit(cls, train: Sequence[SpokenClip]) -> EnergyMap:
        """Least squares over all frames."""
        energy = np.concatenate([c.energy for c in train]).astype(np.float64)
        inputs = np.stack([np.ones_like(energy), energy], 1)
        offset, slope = np.linalg.lstsq(inputs, _mouths(train), rcond=None)[0]
        return cls(offset, slope)

    def motion(self, clip: SpokenClip) -> Array:
        """Motion that follows loudness."""
        return _as_motion(self.offset + clip.energy[:, None] * self.slope)


@dataclass(frozen=True)
class Retrieval:
    """Copies, for each frame, the mouth of the training frame whose window of log-mel is nearest (Euclidean).

    Windows hold one mean column a frame. Nothing is smoothed, so that neighbouring frames may come from other clips:
    its jerk is part of what it is.
    """

    windows: Array  # (N, span * bands)
    squares: Array  # (N,)
    codes: NDArray[np.float64]  # (N, 16)

    @classmethod
    def fit(cls, train: Sequence[SpokenClip]) -> Retrieval:
        """Remember every training frame."""
        windows = np.concatenate([_windows(c.mel) for c in train])
        return cls(windows, np.einsum("nd,nd->n", windows, windows), _mouths(train))

    def motion(self, clip: SpokenClip) -> Array:
        """The nearest frames' mouths."""
        distance = self.squares - 2 * (_windows(clip.mel) @ self.windows.T)
        return _as_motion(self.codes[distance.argmin(1)])


@dataclass(frozen=True)
class FrameRegressor:
    """The deterministic net of `model.evaluation.speech_motion` on all 16 mouth codes."""

    net: Regressor
    source: str  # field of SpokenClip: `mel` or `features`
    mean: NDArray[np.float64]  # (16,)
    scale: NDArray[np.float64]  # (16,)

    @classmethod
    def fit(
        cls, train: Sequence[SpokenClip], source: str, *, seed: int = 0, steps: int = RegressorConfig().steps
    ) -> FrameRegressor:
        """Train it; features have heard 80 ms ahead when they are committed, so that only log-mel is given them."""
        config = RegressorConfig(ahead_frames=MEL_AHEAD_FRAMES if source == "mel" else 0, steps=steps)
        mouths = _mouths(train)
        clips = [RegressionClip(getattr(c, source), c.motion[:, MOUTH_CODES]) for c in train]
        return cls(fit_regressor(clips, config, seed=seed), source, mouths.mean(0), mouths.std(0, ddof=1))

    @torch.inference_mode()
    def motion(self, clip: SpokenClip) -> Array:
        """The net's prediction, in the motion's own units."""
        frames = torch.from_numpy(getattr(clip, self.source))
        standard = self.net(frames[neighbours([len(frames)], self.net.config)]).numpy()
        return _as_motion(self.mean + self.scale * standard)


def _mouths(clips: Sequence[SpokenClip]) -> NDArray[np.float64]:
    return np.concatenate([c.motion[:, MOUTH_CODES] for c in clips]).astype(np.float64)


def _as_motion(codes: NDArray[np.float64]) -> Array:
    motion = np.zeros((len(codes), MOTION_SIZE), np.float32)
    motion[:, MOUTH_CODES] = codes
    return motion


def _windows(mel: Array) -> Array:
    """(T, span * bands): each frame's mean column with those around it."""
    columns = mel.reshape(len(mel), COLUMNS_PER_FRAME, -1).mean(1)
    rows = neighbours([len(mel)], RETRIEVAL).numpy()
    return np.asarray(columns[rows].reshape(len(mel), -1), np.float32)
