"""VoxCeleb2 (Chung, Nagrani, Zisserman 2018) as released: silent mp4 files and an aac tree beside them.

    dev/mp4/id00012/21Uxsk56VDQ/00001.mp4     dev/aac/id00012/21Uxsk56VDQ/00001.m4a
    test/mp4/...                              test/aac/...

Re-releases with the sound inside the mp4 files need no aac tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model.data.clip_lists import check_folder, describe_folder, make_keys, pick_listed, read_list, sample_clips
from model.data.clip_types import ClipSource
from model.errors import DataError

__all__ = ["list_voxceleb2", "sample_clips"]

SPLITS = ("dev", "test")
_CLIP = re.compile(r"(?:^|/)(id\d{5})/([A-Za-z0-9_-]+)/(\d{5})(?:\.(?:mp4|m4a|wav|txt))?$")
_EXAMPLE = "id00012/21Uxsk56VDQ/00001"


def list_voxceleb2(root: Path, *, split: str = "", list_file: Path | None = None) -> list[ClipSource]:
    """Clips of the corpus, sorted by key (`id00012_21Uxsk56VDQ_00001`). Nothing is opened.

    Args:
        root: Folder that holds dev and test, or one of these.
        split: "dev" or "test"; both by default.
        list_file: Only the clips it names: a line each such as `id00012/21Uxsk56VDQ/00001` with anything in front
            and with or without suffix, two of them, or one and a label.

    Raises:
        DataError: The folders are not there, no clip is in them, the list is damaged, or a listed clip is missing.
    """
    check_folder(root)
    if split not in ("", *SPLITS):
        raise DataError(f"VoxCeleb2 has the splits {' and '.join(SPLITS)}, not {split!r}")
    clips: dict[str, ClipSource] = {}
    for name, part in _parts(root, split):
        for clip_name, clip in _clips(part):
            clips.setdefault(clip_name, replace(clip, split=name))
    if not clips:
        raise DataError(f"no idNNNNN/<video>/NNNNN.mp4 in the mp4 folder of {root}; found {describe_folder(root)}")
    names = list(clips)
    keyed = {name: replace(clips[name], key=key) for name, key in zip(names, make_keys(names), strict=True)}
    if list_file is not None:
        return pick_listed(keyed, read_list(list_file, _clip_name, _EXAMPLE), list_file, root)
    return sorted(keyed.values(), key=lambda c: c.key)


def _parts(root: Path, split: str) -> list[tuple[str, Path]]:
    """Split names and the folders that hold mp4 (and aac)."""
    parts = [(name, root / name) for name in SPLITS if (root / name / "mp4").is_dir()]
    if not parts and (root / "mp4").is_dir():
        parts = [(root.name if root.name in SPLITS else "", root)]
    chosen = [part for part in parts if split in ("", part[0])]
    if not chosen:
        wanted = f"{split}/mp4" if split else "dev/mp4, test/mp4 or mp4"
        raise DataError(f"no folder {wanted} in {root}; found {describe_folder(root)}")
    return chosen


def _clips(part: Path) -> Iterator[tuple[str, ClipSource]]:
    for video in sorted((part / "mp4").glob("id*/*/*.mp4")):
        name = _clip_name(video.relative_to(part / "mp4").as_posix())
        if name is None:
            continue
        audio = part / "aac" / f"{name}.m4a"
        yield (
            name,
            ClipSource(key=name, video=video, audio=audio if audio.is_file() else None, speaker=name.split("/")[0]),
        )


def _clip_name(path: str) -> str | None:
    match = _CLIP.search(path)
    return "/".join(match.groups()) if match else None
