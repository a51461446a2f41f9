"""Which avatars and backgrounds there are, found without loading a model. Callers name them by id, never by path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_server.errors import ServerConfigError
from stream_server.json_text import read_json

__all__ = ["SHIPPED_FOLDER", "Catalogue", "describe_avatar", "find_avatars"]

SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "model" / "assets" / "avatars"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def find_avatars(folder: Path) -> dict[str, dict[str, object]]:
    """Name -> what `avatar.json` says, for each avatar folder in `folder`; damaged ones hold an "error"."""
    return {file.parent.name: _read(file) for file in sorted(folder.glob("*/avatar.json"))}


def describe_avatar(folder: Path) -> dict[str, object]:
    """What callers may know of an avatar: its name, licence, consent and what it was made from. Reads a file."""
    about = _read(folder / "avatar.json")
    shown = ("name", "licence", "license", "provenance", "consent", "error")
    return {key: about[key] for key in shown if key in about} | {"preview": (folder / "preview.jpg").is_file()}


@dataclass(frozen=True)
class Catalogue:
    """What a server may show: avatar folders and background pictures by id, and the avatar that callers get first."""

    first: str
    avatars: Mapping[str, Path]
    backgrounds: Mapping[str, Path]

    @classmethod
    def find(cls, avatar: str | None, avatars: str | None, backgrounds: str | None) -> Catalogue:
        """The shipped avatars, those of the operator's folder, and `avatar`: a folder, or the name of one of these.

        Ids are folder names and picture names without their ending; others than letters, digits, `_`, `.` and `-`
        are passed over.

        Raises:
            ServerConfigError: A folder is not there.
        """
        folders = _avatar_folders(SHIPPED_FOLDER)
        if avatars is not None:
            folders |= _avatar_folders(_existing(avatars, "--avatars"))
        first = "default"
        if avatar is not None:
            first = avatar if avatar in folders else Path(avatar).resolve().name
            if avatar not in folders:
                folders[first] = Path(avatar)
        pictures: dict[str, Path] = {}
        if backgrounds is not None:
            files = sorted(_existing(backgrounds, "--backgrounds").iterdir())
            pictures = {f.stem: f for f in files if f.suffix.lower() in PICTURES and _ID.fullmatch(f.stem)}
        return cls(first, folders, pictures)


def _avatar_folders(folder: Path) -> dict[str, Path]:
    return {f.parent.name: f.parent for f in sorted(folder.glob("*/avatar.json")) if _ID.fullmatch(f.parent.name)}


def _read(file: Path) -> dict[str, object]:
    try:
        value = read_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # not the path: callers see it
        return {"error": f"cannot be read: {reason}"}
    return value if isinstance(value, dict) else {"error": "is not a JSON object"}


def _existing(given: str, option: str) -> Path:
    folder = Path(given)
    if not folder.is_dir():
        raise ServerConfigError(f"{option} {given}: there is no such folder")
    return folder
