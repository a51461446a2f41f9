"""GRID audiovisual sentence corpus (Cooke et al. 2006): clips with their words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from model.data.clip_lists import find_videos, make_keys
from model.data.clip_types import ClipSource, Word
from model.errors import DataError

__all__ = [
    "Word",
    "list_grid",
    "parse_alignment",
    "read_alignment",
    "spelled_sentence",
]

ALIGN_UNITS_PER_FRAME = 1000
VIDEO_SUFFIXES = (".mp4", ".mpg", ".mov", ".avi")
ALIGN_FOLDERS = ("align", "alignments")
SILENCES = frozenset({"sil", "sp"})

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
_GRAMMAR: tuple[dict[str, str], ...] = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split(), strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


def list_grid(root: Path) -> list[ClipSource]:
    """Clips of the corpus below a folder, sorted by key (their path); no video is opened.

    Words come from `<clip>.align` beside the video or in an `align` (or `alignments`) folder of the same speaker or
    of none, with silences kept. Without one, `text` is what the clip's name spells. Speaker and split come from folder
    names.

    Raises:
        DataError: There is no video, or an alignment is damaged.
    """
    videos = find_videos(root, VIDEO_SUFFIXES)
    names = [video.relative_to(root).with_suffix("").as_posix() for video in videos]
    if len(set(names)) < len(names):  # the same clip in two formats
        names = [video.relative_to(root).as_posix() for video in videos]
    alignments = _find_alignments(root)
    stems = Counter(video.stem for video in videos)
    clips = []
    for key, video in zip(make_keys(names), videos, strict=True):
        folders = _folders(root, video)
        speaker = _speaker(folders)
        places: list[Path | str] = [video.parent, speaker, ""] if stems[video.stem] == 1 else [video.parent, speaker]
        align = next((found for place in places if (found := alignments.get((place, video.stem)))), None)
        words = read_alignment(align) if align else ()
        text = " ".join(w.text for w in words if w.text not in SILENCES) or spelled_sentence(video.stem)
        split = next((_SPLITS[f.lower()] for f in reversed(folders) if f.lower() in _SPLITS), "")
        clips.append(ClipSource(key=key, video=video, speaker=speaker, split=split, text=text, words=words))
    return sorted(clips, key=lambda c: c.key)


def spelled_sentence(name: str) -> str:
    """The sentence that a six-letter clip name spells ("brbk7n": "bin red by k seven now"); "" if it is none."""
    if len(name) != len(_GRAMMAR):
        return ""
    words = [choices.get(letter, "") for choices, letter in zip(_GRAMMAR, name.lower(), strict=True)]
    return " ".join(words) if all(words) else ""


def read_alignment(path: Path) -> tuple[Word, ...]:
    """Read a GRID `.align` file (start, end, word; 1/1000 frames); silences are words, too.

    Raises:
        DataError: A line is not two rising numbers and a word, or the file is not text or empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not an alignment (not text: {error.reason} at byte {error.start})") from error
    words = parse_alignment(text, str(path))
    if not words:
        raise DataError(f"{path} holds no words; remove it, or copy it again")
    return words


def parse_alignment(text: str, name: str) -> tuple[Word, ...]:
    """The words of an alignment's text; `name` stands for the file in messages."""
    words: list[Word] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or not (fields[0].isdecimal() and fields[1].isdecimal()):
            raise DataError(f"{name}:{number}: wanted 'start end word', got {line!r}")
        start, end = (int(v) / ALIGN_UNITS_PER_FRAME for v in fields[:2])
        if end < start or (words and start < words[-1].start_frame):
            raise DataError(f"{name}:{number}: times must rise, got {line!r}")
        words.append(Word(text=fields[2], start_frame=start, end_frame=end))
    return tuple(words)


def _find_alignments(root: Path) -> dict[tuple[Path | str, str], Path]:
    """Alignment files by folder and clip name, and by speaker and clip name."""
    found: dict[tuple[Path | str, str], Path] = {}
    for path in sorted(root.rglob("*.align")):
        found[path.parent, path.stem] = path
        if any(folder.lower() in ALIGN_FOLDERS for folder in path.relative_to(root).parts[:-1]):
            found.setdefault((_speaker(_folders(root, path)), path.stem), path)
    return found


def _folders(root: Path, path: Path) -> tuple[str, ...]:
    return (root.absolute().name, *path.relative_to(root).parts[:-1])


def _speaker(folders: tuple[str, ...]) -> str:
    """The innermost folder name that holds `sN`, as `sN`; "" when none does."""
    matches = (re.search(r"(?:^|[_-])s(\d{1,2})(?:$|[._-])", folder) for folder in reversed(folders))
    return next((f"s{int(match[1])}" for match in matches if match), "")
