"""LRW, Lip Reading in the Wild (Chung and Zisserman 2016): 29 frames at 25 fps with one word in the middle.

ABOUT/train/ABOUT_00001.mp4     ABOUT/train/ABOUT_00001.txt with a line `Duration: 0.53 seconds`
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from model.data.clip_lists import check_folder, describe_folder, make_keys, pick_listed, read_list
from model.data.clip_types import ClipSource, Word
from model.errors import DataError

SPLITS = ("train", "val", "test")
CLIP_FRAMES = 29
FPS = 25
_CLIP = re.compile(r"(?:^|/)([A-Z']+)/(train|val|test)/(\1_\d{5})(?:\.(?:mp4|txt))?$")
_EXAMPLE = "ABOUT/test/ABOUT_00001"


def list_lrw(root: Path, *, split: str = "", list_file: Path | None = None) -> list[ClipSource]:
    """Clips of the corpus, sorted by key (`ABOUT_test_ABOUT_00001`); no video is opened.

    `text` is the word in lower case; `words` its place, from the duration beside the clip, centred in 29 frames. A
    clip without that file has no `words`.

    Args:
        root: Folder of the word folders, or the one that holds `lipread_mp4`.
        split: "train", "val" or "test"; all by default.
        list_file: Only the clips it names, a line each such as `ABOUT/test/ABOUT_00001`.

    Raises:
        DataError: The layout is another, a duration or the list is damaged, or a listed clip is missing.
    """
    check_folder(root)
    if split not in ("", *SPLITS):
        raise DataError(f"LRW has the splits {', '.join(SPLITS)}, not {split!r}")
    base = root / "lipread_mp4" if (root / "lipread_mp4").is_dir() else root
    videos = {
        name: video
        for part in ([split] if split else SPLITS)
        for video in base.glob(f"*/{part}/*.mp4")
        if (name := _clip_name(video.relative_to(base).as_posix())) is not None
    }
    if not videos:
        raise DataError(f"no WORD/{split or 'train'}/WORD_00001.mp4 in {base}; found {describe_folder(base)}")
    names = sorted(videos)
    if list_file is not None:
        names = read_list(list_file, _clip_name, _EXAMPLE)
    wanted = set(names)
    clips = {name: _clip(name, video) for name, video in videos.items() if name in wanted}
    keys = dict(zip(clips, make_keys(list(clips)), strict=True))
    clips = {name: replace(clip, key=keys[name]) for name, clip in clips.items()}
    return pick_listed(clips, names, list_file or root, root)


def read_duration(path: Path) -> float:
    """Seconds that the word lasts, from an LRW metadata file.

    Raises:
        DataError: No line reads `Duration: 0.53 seconds`, or the number does not fit into a clip.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        name, _, value = line.partition(":")
        if name.strip().lower() != "duration":
            continue
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:seconds?|s)?\s*", value)
        if match is None or not 0 < float(match[1]) * FPS <= CLIP_FRAMES + 1:
            raise DataError(f"{path}:{number}: wanted a line like 'Duration: 0.53 seconds', got {line!r}")
        return float(match[1])
    raise DataError(f"{path} has no line 'Duration: 0.53 seconds'")


def _clip(name: str, video: Path) -> ClipSource:
    word, split, _ = name.split("/")
    metadata = video.with_suffix(".txt")
    words: tuple[Word, ...] = ()
    if metadata.is_file():
        half = read_duration(metadata) * FPS / 2
        start, end = max(0.0, CLIP_FRAMES / 2 - half), min(float(CLIP_FRAMES), CLIP_FRAMES / 2 + half)
        words = (Word(text=word.lower(), start_frame=start, end_frame=end),)
    return ClipSource(key=name, video=video, split=split, text=word.lower(), words=words)


def _clip_name(path: str) -> str | None:
    match = _CLIP.search(path)
    return "/".join(match.groups()) if match else None
