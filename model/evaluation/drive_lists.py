"""Who drives whom: the lists of the two protocols of talking-head papers.

Reconstruction: a video is made from its own sound and held against itself. Cross-generation: from another clip's sound;
there is no true picture. The papers' lists (Diff2Lip's for VoxCeleb2, Wav2Lip's for LRW) are read from a path, one
`<audio> <video>` a line; they are under a non-commercial licence and are not shipped. Ours are drawn from a seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.errors import DataError, InputError

__all__ = ["Drive", "cross_drives", "read_drives", "reconstruction_drives", "write_drives"]


@dataclass(frozen=True, slots=True)
class Drive:
    """One video to make: the clip that gives the sound, and the clip that gives face and head pose."""

    audio: str
    video: str

    @property
    def name(self) -> str:
        """The clip's name, or `<video> by <audio>`."""
        return self.video if self.audio == self.video else f"{self.video} by {self.audio}"


def read_drives(path: Path) -> list[Drive]:
    """A list file: `<audio> <video>` a line, names as they stand there; empty lines are passed over.

    Raises:
        DataError: The file cannot be read, is empty, a line has other than two names, or a line comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    drives: dict[Drive, int] = {}
    for number, line in enumerate(lines, start=1):
        names = line.split()
        if not names:
            continue
        if len(names) != 2:
            raise DataError(f"{path}, line {number}: need '<audio> <video>', got {line.strip()[:80]!r}")
        drive = Drive(*names)
        if drive in drives:
            raise DataError(f"{path}, line {number}: {line.strip()!r} stands in line {drives[drive]} already")
        drives[drive] = number
    if not drives:
        raise DataError(f"the list {path} is empty: need '<audio> <video>' a line")
    return list(drives)


def write_drives(path: Path, drives: Sequence[Drive]) -> None:
    """Write a list that `read_drives` reads.

    Raises:
        InputError: A name holds white space.
    """
    for drive in drives:
        if len(f"{drive.audio} {drive.video}".split()) != 2:
            raise InputError(f"names in a list hold no white space, got {drive.audio!r} and {drive.video!r}")
    path.write_text("".join(f"{d.audio} {d.video}\n" for d in drives), encoding="utf-8")


def reconstruction_drives(clips: Sequence[str], *, count: int | None = None, seed: int = 0) -> list[Drive]:
    """Each clip by its own sound; `count` of them drawn at random, in the clips' order.

    Raises:
        InputError: There are fewer clips, or one comes twice.
    """
    return [Drive(clip, clip) for clip in _draw(clips, count, np.random.default_rng(seed))]


def cross_drives(
    clips: Sequence[str], speakers: Mapping[str, str] | None = None, *, count: int | None = None, seed: int = 0
) -> list[Drive]:
    """Each clip by another's sound, each sound used once; `count` of the clips drawn at random.

    With `speakers` (clip to speaker) the sound is always another speaker's. Clips are shuffled, gathered by speaker,
    and the list is turned by the largest speaker's number of clips: nobody then meets himself.

    Raises:
        InputError: There are fewer than two clips or fewer than `count`, one comes twice or has no speaker, or one
            speaker has more than half of those drawn.
    """
    rng = np.random.default_rng(seed)
    drawn = _draw(clips, count, rng)
    if len(drawn) < 2:
        raise InputError(f"cross-generation needs two clips or more, got {len(drawn)}")
    groups: dict[str, list[str]] = defaultdict(list)
    for clip in (drawn[int(i)] for i in rng.permutation(len(drawn))):
        if speakers is not None and not speakers.get(clip):
            raise InputError(f"clip {clip!r} has no speaker: give every clip's, or none")
        groups[speakers[clip] if speakers is not None else clip].append(clip)
    turn = max(len(group) for group in groups.values())
    if 2 * turn > len(drawn):
        largest = max(groups, key=lambda speaker: len(groups[speaker]))
        raise InputError(
            f"speaker {largest!r} has {turn} of {len(drawn)} clips: not all can be driven by somebody else's sound"
        )
    order = [clip for group in groups.values() for clip in group]
    by = {video: order[(index + turn) % len(order)] for index, video in enumerate(order)}
    return [Drive(by[video], video) for video in drawn]


def _draw(clips: Sequence[str], count: int | None, rng: np.random.Generator) -> list[str]:
    if len(set(clips)) != len(clips):
        twice = next(clip for clip in clips if list(clips).count(clip) > 1)
        raise InputError(f"clip {twice!r} is named twice")
    if count is None:
        return list(clips)
    if not 0 < count <= len(clips):
        raise InputError(f"cannot draw {count} of {len(clips)} clips")
    return [clips[int(i)] for i in sorted(rng.choice(len(clips), count, replace=False))]
