"""Plain videos, from files and folders, as clips to prepare."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from model.data.clip_lists import find_videos, make_keys
from model.data.clip_types import ClipSource
from model.errors import DataError


def list_videos(paths: Path | Sequence[Path]) -> list[ClipSource]:
    """All videos of files (whatever their suffix) and folders (searched below, by suffix), sorted by key.

    Keys come from the path below the given folder, or from a given file's name. Nothing is opened. The same file met
    twice is taken once.

    Raises:
        DataError: Nothing was given, a path does not exist, or a folder holds no video.
    """
    roots = [paths] if isinstance(paths, Path) else list(paths)
    if not roots:
        raise DataError("no video was given; name at least one file or folder")
    found: dict[Path, tuple[Path, Path]] = {}  # real file -> where it was met, and relative to what
    for root in roots:
        if not root.exists():
            raise DataError(f"no such file or folder: {root}; check the path")
        for video in [root] if root.is_file() else find_videos(root):
            found.setdefault(video.resolve(), (video, root.parent if root.is_file() else root))
    pairs = sorted(found.values())
    names = [video.relative_to(base).with_suffix("").as_posix() for video, base in pairs]
    if len(set(names)) < len(names):  # the same name below two folders, or with two suffixes
        common = Path(os.path.commonpath([video.absolute().parent for video, _ in pairs]))
        names = [video.absolute().relative_to(common).as_posix() for video, _ in pairs]
    clips = [ClipSource(key=key, video=video) for key, (video, _) in zip(make_keys(names), pairs, strict=True)]
    return sorted(clips, key=lambda c: c.key)
