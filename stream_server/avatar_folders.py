"""Which avatars are installed, read from their `avatar.json` without loading any model."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["SHIPPED_FOLDER", "find_avatars"]

SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "model" / "assets" / "avatars"


def find_avatars(folder: Path) -> dict[str, dict[str, object]]:
    """Name -> what `avatar.json` says, for each avatar folder in `folder`; damaged ones hold an "error"."""
    found: dict[str, dict[str, object]] = {}
    for file in sorted(folder.glob("*/avatar.json")):
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            value = {"error": f"cannot be read: {error}"}
        found[file.parent.name] = value if isinstance(value, dict) else {"error": "is not a JSON object"}
    return found
