"""Which part of a corpus a process of a training hears and holds.

Clips in key order are cut into one stretch a process: files that hold none of it are not opened, and clips of a speaker
mostly stay together. What is said or is noise in a corpus goes round the processes, item by item. Which part that is
depends on the rank and the number of processes only, so a training that goes on has the parts it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from model.data.features import ClipFeatures, clip_speakers, count_clips, iterate_clips
from model.data.preparing.folder import PreparedFolder, write_whole
from model.errors import DataError
from model.face.calibration import SpeakerCalibration
from model.face.head_shape import load_head_shape
from model.fetching import sha256_of
from model.motion.space import load_motion_space
from model.training.distributed import Distributed
from model.training.motion_targets import calibrate_speakers_of, clip_motion

__all__ = ["WHOLE", "Shard", "clips_with_motion"]

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @classmethod
    def of(cls, distributed: Distributed) -> Shard:
        """A process's part."""
        return cls(distributed.rank, distributed.world_size)

    @property
    def suffix(self) -> str:
        """Tells files of parts apart; nothing for the whole."""
        return "" if self.count == 1 else f"-{self.rank + 1}of{self.count}"

    def block(self, total: int) -> range:
        """Positions of a stretch of `total` things; stretches differ by one thing at most.

        Raises:
            DataError: There are fewer things than parts.
        """
        if total < self.count:
            raise DataError(f"{total} clips cannot be shared by {self.count} processes: start fewer")
        return range(self.rank * total // self.count, (self.rank + 1) * total // self.count)

    def every(self, things: Iterable[Thing]) -> Iterator[Thing]:
        """Every `count`-th thing."""
        return islice(things, self.rank, None, self.count)


WHOLE = Shard()
"""Everything."""


def clips_with_motion(folder: Path, cache: Path, shard: Shard) -> Iterator[tuple[ClipFeatures, NDArray[np.float32]]]:
    """A part's clips with their motion (T, 32), one in memory at a time."""
    shape, space = load_head_shape(), load_motion_space()
    calibrations = _kept_calibrations(folder, cache, shard)
    for clip in iterate_clips(folder, shard.block(count_clips(folder))):
        yield clip, clip_motion(clip, calibrations[clip.speaker], shape, space)


def _kept_calibrations(folder: Path, cache: Path, shard: Shard) -> dict[str, SpeakerCalibration]:
    """Of the speakers of a part, each on all of his clips, also those of other parts; made once and kept in `cache`.

    Raises:
        DataError: There is no clip, or what was kept is damaged.
    """
    shape = load_head_shape()
    words = f"{shape.hash} {sha256_of(PreparedFolder(folder).manifest)}"
    path = cache / f"speakers-{hashlib.sha256(words.encode()).hexdigest()[:16]}{shard.suffix}.safetensors"
    if not path.is_file():
        speakers = clip_speakers(folder)
        made = calibrate_speakers_of(folder, shape, only={speakers[place] for place in shard.block(len(speakers))})
        if not made:
            raise DataError(f"no prepared clips in {folder}")
        neutral = {f"neutral.{speaker}": one.neutral for speaker, one in made.items()}
        gain = {f"gain.{speaker}": np.array([one.gain]) for speaker, one in made.items()}
        cache.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(neutral | gain))
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} holds no calibrations ({error!r}): delete it, it is made anew") from error
    names = [name.removeprefix("gain.") for name in arrays if name.startswith("gain.")]
    return {one: SpeakerCalibration(arrays[f"neutral.{one}"], float(arrays[f"gain.{one}"][0])) for one in names}
