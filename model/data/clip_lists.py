"""Naming, finding, listing and sampling clips: what every data-set reader shares."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from model.data.clip_types import ClipSource
from model.errors import DataError

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .m2ts .mts .ts .3gp .wmv .flv .ogv .mxf".split())
MAX_KEY_LETTERS = 120
_SHOWN = 5  # names quoted in a message


def find_videos(root: Path, suffixes: Iterable[str] = VIDEO_SUFFIXES) -> list[Path]:
    """Video files below a folder by their suffix (whatever its case), sorted; hidden files are left out.

    Raises:
        DataError: The folder is missing, or holds none.
    """
    check_folder(root)
    wanted = frozenset(suffixes)
    found = sorted(
        p for p in root.rglob("*") if p.suffix.lower() in wanted and not p.name.startswith(".") and p.is_file()
    )
    if not found:
        raise DataError(f"no {', '.join(sorted(wanted))} file below {root}; found {describe_folder(root)}")
    return found


def check_folder(root: Path) -> None:
    """Raise a DataError unless `root` is a folder."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder" if root.exists() else f"no such folder: {root}; check the path")


def describe_folder(root: Path) -> str:
    """The first few names in a folder, for messages."""
    names = sorted(p.name + "/" * p.is_dir() for p in root.iterdir())
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "nothing"


def make_keys(names: Sequence[str]) -> list[str]:
    """A unique key of letters, digits, `-` and `_` for each name (a relative path without suffix), stable in any order.

    `/` becomes `_` and other letters `-`; accents are dropped. Names that would share a key all get a hash of the name.

    Raises:
        DataError: A name comes twice.
    """
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"the clip {twice!r} is named twice; give each file once")
    plain = [_plain(name) for name in names]
    shared = Counter(key.casefold() for key in plain)
    return [
        f"{key}-{_digest(name)}" if shared[key.casefold()] > 1 or len(key) == MAX_KEY_LETTERS else key
        for key, name in zip(plain, names, strict=True)
    ]


def sample_clips(clips: Sequence[ClipSource], count: int, seed: int) -> list[ClipSource]:
    """`count` clips, spread over the speakers as evenly as they allow, sorted by key.

    The choice depends on seed, speakers and keys only: not on the order of `clips` or the disk's.

    Raises:
        DataError: There are fewer clips than that.
    """
    if not 0 < count <= len(clips):
        raise DataError(f"cannot choose {count} of {len(clips)} clips; give a number from 1 to {len(clips)}")
    by_speaker: defaultdict[str, list[ClipSource]] = defaultdict(list)
    for clip in sorted(clips, key=lambda c: _digest(f"{seed}/{c.speaker}/{c.key}", letters=32)):
        by_speaker[clip.speaker].append(clip)
    speakers = sorted(by_speaker, key=lambda name: _digest(f"{seed}/{name}", letters=32))
    ranked = sorted(
        (turn, place, clip.key, clip)
        for place, speaker in enumerate(speakers)
        for turn, clip in enumerate(by_speaker[speaker])
    )
    return sorted((entry[-1] for entry in ranked[:count]), key=lambda c: c.key)


def read_list(path: Path, parse: Callable[[str], str | None], example: str) -> list[str]:
    """Clip names of a list file, in order and each once.

    Each line holds a path, or two, or a path and a label; blank lines and lines that begin with `#` are passed over.
    Of two paths on a line (sound of one clip for the picture of another) both are wanted.

    Args:
        path: The list.
        parse: Gives the clip's name for a path, or None when it is none.
        example: What a line looks like, for messages.

    Raises:
        DataError: The list is missing, empty or not text, or a line names no clip.
    """
    if not path.is_file():
        raise DataError(f"no such list file: {path}; check the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a list of clips (not text: {error.reason} at byte {error.start})") from error
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        parsed = [parse(field) for field in fields]
        if parsed[0] is None or len(fields) > 2:
            raise DataError(f"{path}:{number}: wanted a line like {example!r}, got {line!r}")
        names.update((name, None) for name in parsed if name is not None)
    if not names:
        raise DataError(f"{path} names no clips; each line should be like {example!r}")
    return list(names)


def pick_listed(clips: Mapping[str, ClipSource], names: Sequence[str], list_file: Path, root: Path) -> list[ClipSource]:
    """The listed clips, sorted by key.

    Raises:
        DataError: Some are not there.
    """
    missing = [name for name in names if name not in clips]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
        raise DataError(f"{len(missing)} of {len(names)} clips that {list_file} lists are not below {root}: {shown}")
    return sorted((clips[name] for name in names), key=lambda c: c.key)


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    joined = re.sub(r"[^A-Za-z0-9_-]+", "-", letters.replace("/", "_"))
    return joined.strip("-_")[:MAX_KEY_LETTERS] or "clip"


def _digest(text: str, *, letters: int = 8) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:letters]
