"""The options by which a user picks other speech weights than the shipped ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.speech.whisper_source import WhisperFile

Models = Annotated[Path | None, typer.Option(help="folder of speech and motion weights; the shipped ones if not given")]
Whisper = Annotated[
    str | None,
    typer.Option(help="Whisper's name (fetched once) or a checkpoint's path, where --models was trained on one"),
]


def whisper_path(whisper: str | None) -> Path | None:
    """The checkpoint on this machine, fetched if it is one of Whisper's own and not in Whisper's cache.

    Raises:
        InputError: There is no such checkpoint, or it could not be fetched.
    """
    found = whisper_file(whisper)
    return found.path if found else None


def whisper_file(whisper: str | None) -> WhisperFile | None:
    """The same, with its hash."""
    if whisper is None:
        return None
    from model.speech.whisper_source import default_whisper_cache, find_whisper

    return find_whisper(whisper, default_whisper_cache(os.environ, Path.home()))
