"""What travels through `prepare`: a clip to analyse, what is wrong with one, and what comes out.

Plain values only (paths, numbers, bytes), so that they cross process and machine borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from model.errors import InputError


class Problem(StrEnum):
    """Why a clip is refused. The value is the short name in manifests and reports."""

    MISSING_FILE = "missing file"
    ZERO_BYTES = "zero bytes"
    NOT_A_VIDEO = "not a video"
    TRUNCATED = "truncated"
    TOO_SHORT = "too short"
    LOW_FRAME_RATE = "low frame rate"
    NO_AUDIO = "no audio"
    NO_FACE = "no face"
    TWO_FACES = "two faces"
    PROFILE = "profile"
    ON_ITS_SIDE = "on its side"
    FACE_TOO_SMALL = "face too small"
    FACE_LOST = "face lost"
    OUT_OF_SYNC = "out of sync"
    NO_MATTE = "no matte"
    CRASHED = "analysis crashed"
    TIMED_OUT = "analysis timed out"


class Note(StrEnum):
    """What was unusual about a clip that is used all the same, and what was done about it."""

    ROTATED = "turned upright"
    VARIABLE_FRAME_RATE = "variable frame rate resampled"
    FRAME_RATE = "frame rate resampled"
    HIGH_DYNAMIC_RANGE = "high dynamic range tone-mapped"
    AUDIO_LONGER = "audio longer than video cut"
    AUDIO_SHORTER = "audio shorter than video padded"
    AUDIO_LATE = "audio starts late, padded"
    DAMAGED_FRAMES = "damaged frames concealed"
    RESIZED = "scaled down"
    CUT_SHORT = "cut to the longest length taken"
    SPLIT = "split where the face was lost"
    GAPS_FILLED = "short gaps of tracking filled"
    SHIFTED = "audio shifted into sync"
    INTERLACED = "interlaced lines kept"
    SYNC_UNJUDGED = "too little speech to judge sync"
    NO_SOUND = "no sound, none needed"


class ClipError(InputError):
    """A clip that cannot be used.

    Args:
        problem: What kind of problem.
        message: One line: what was wrong, with the value, and what to do.
    """

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(problem, message)  # all arguments, so that it survives pickling between processes
        self.problem = problem
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One aligned word; times in frames at 25 fps, fractional."""

    text: str
    start_frame: float
    end_frame: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSource:
    """One clip of a data set, named but not yet opened."""

    key: str  # unique within the data set; letters, digits, `-` and `_` only
    video: Path
    audio: Path | None = None  # sound in a file of its own (VoxCeleb2's aac folder)
    speaker: str = ""
    split: str = ""  # "train", "val", "test" or ""
    text: str = ""  # what is said, when the data set tells
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One record of a shard: WebDataset's files `key.part` (such as `key.features.safetensors`)."""

    key: str
    parts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOutcome:
    """What became of one clip.

    Either `samples` (several where a clip was split) or `problem`; `row` feeds manifest and report either way.
    """

    key: str
    samples: tuple[Sample, ...] = ()
    problem: Problem | None = None
    message: str = ""  # the one clear line when there is a problem
    notes: tuple[str, ...] = ()  # `Note` values, with numbers: "turned upright (90 degrees)"
    row: Mapping[str, Any] = field(default_factory=dict)  # JSON values: frames, mean yaw, sync, ...
    thumbnail: bytes = b""  # JPEG for the report's contact sheet; may be empty
