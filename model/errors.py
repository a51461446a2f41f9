"""Errors of the model package. Each message names the value that was received.

ModelError                      base of all; the command line prints it as one line and exits with 2
├── ConfigError                 a config field, or a config file, is not acceptable
├── InputError                  a file or value that the user gave cannot be used (audio, video, JSON)
├── DataError                   a data set or prepared features are missing or damaged
├── AvatarError                 an avatar folder is missing, incomplete or lacks consent
├── ResultsError                a results file does not follow the schema
└── CheckpointError             a weights file is missing, truncated or foreign
    ├── CheckpointKindError     it holds something else than was asked for
    ├── CheckpointVersionError  a newer program wrote it
    └── CheckpointBindingError  it was trained with other weights than those at hand (hash mismatch)
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AvatarError",
    "CheckpointBindingError",
    "CheckpointError",
    "CheckpointKindError",
    "CheckpointVersionError",
    "ConfigError",
    "DataError",
    "InputError",
    "ModelError",
    "ResultsError",
]


class ModelError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(ModelError):
    """A config value is unknown, of the wrong type, or out of range."""


class InputError(ModelError):
    """Something the user handed over cannot be used."""


class DataError(ModelError):
    """A data set or a folder of prepared features is missing or damaged."""


class AvatarError(ModelError):
    """An avatar folder is missing, incomplete, or not allowed to be used."""


class ResultsError(ModelError):
    """A results file does not follow the schema."""


class CheckpointError(ModelError):
    """A weights file is missing, truncated, or not ours."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class CheckpointKindError(CheckpointError):
    """The file holds another kind of model than was asked for."""

    def __init__(self, path: Path, *, wanted: str, found: str) -> None:
        super().__init__(path, f"holds a {found!r} checkpoint, wanted {wanted!r}")
        self.wanted = wanted
        self.found = found


class CheckpointVersionError(CheckpointError):
    """The file was written in a newer format than this program reads."""

    def __init__(self, path: Path, *, found: int, newest: int) -> None:
        super().__init__(path, f"has format version {found}, this program reads up to {newest}: update nerf-lipsync")
        self.found = found
        self.newest = newest


class CheckpointBindingError(CheckpointError):
    """The file was trained with other weights than those at hand.

    Args:
        path: The checkpoint that was loaded.
        needs: What it is bound to, in words ("speech encoder").
        wanted: Content hash recorded at training.
        found: Content hash of what is installed.
        remedy: The command that makes them agree.
    """

    def __init__(self, path: Path, *, needs: str, wanted: str, found: str, remedy: str) -> None:
        super().__init__(path, f"was trained with {needs} {wanted}, found {found}; run: {remedy}")
        self.wanted = wanted
        self.found = found
        self.remedy = remedy
