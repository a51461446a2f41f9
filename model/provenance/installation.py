"""The number by which an installation's renderings can be told: drawn once, kept in a file of the user's own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from model.errors import InputError
from model.provenance.payload import INSTANCE_BITS

__all__ = ["installation_id", "state_folder"]

FILE_NAME = "instance-id"
_WAYS_OUT = "or give --instance-id, or --no-invisible-mark"


def state_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where this program keeps what it has to remember: $XDG_STATE_HOME/nerf-lipsync, or below ~/.local/state.

    A relative $XDG_STATE_HOME is ignored, as its specification asks: each working folder would have its own number.
    """
    base = Path(environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else home / ".local" / "state") / "nerf-lipsync"


def installation_id(folder: Path) -> int:
    """The number (0 .. 2**24 - 1) kept in a folder; drawn at random, and written for the user alone, where none is.

    It says nothing about the machine or its user. Programs that start at once get the same.

    Raises:
        InputError: The file cannot be read or written, or holds no such number.
    """
    path = folder / FILE_NAME
    try:
        if not path.exists():
            _draw(path)
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot keep the installation's id in {path}: {error}; make it writable, {_WAYS_OUT}"
        ) from error
    if not text.isdecimal() or int(text) >= 1 << INSTANCE_BITS:
        raise InputError(
            f"{path} must hold a number within 0..{(1 << INSTANCE_BITS) - 1}, got {text[:20]!r}; delete it, {_WAYS_OUT}"
        )
    return int(text)


def _draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.randbelow(1 << INSTANCE_BITS)}\n")
        os.link(partial, path)  # whole or not at all, and never over another's
    except FileExistsError:
        pass  # another program was quicker: its number counts
    finally:
        partial.unlink(missing_ok=True)
