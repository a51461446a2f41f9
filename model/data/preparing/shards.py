"""Shards in the WebDataset convention: plain tar files, whose members `key.part` with one key make one sample.

Why this format: it is well kept and widely read (the `webdataset` library, Ray Data, torchdata, Hugging Face
datasets), any tar tool opens it, reading is sequential and so runs at full speed from disks, network file systems and
object stores, a sample's parts are ordinary files (safetensors, JSON: nothing is unpickled), and files of some 100 MB
keep a corpus of millions of clips from becoming millions of files. https://github.com/webdataset/webdataset

Shard i holds the samples of clips [i N, (i + 1) N) in key order, less the refused ones, so that its bytes depend on
sources and settings only. The sidecar `shard-000000.json` is written after its tar: where it lies, the shard is done.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.data.clip_types import ClipOutcome, Sample
from model.data.preparing.folder import PreparedFolder, sync_folder
from model.data.preparing.records import ClipRecord, ShardEntry, ShardRecord, read_manifest, read_record, write_record
from model.data.preparing.staging import read_outcome
from model.data.preparing.tar_files import read_tar, write_tar
from model.errors import DataError

__all__ = ["PackTask", "finished_shard", "pack_shard", "read_shards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackTask:
    """One shard whose clips are all staged."""

    folder: Path
    shard: int
    first_clip: int  # position of its first clip among all clips, in key order
    keys: tuple[str, ...]  # its clips, in key order
    thumbnail_stride: int  # thumbnails of every so many-th clip are kept


def pack_shard(task: PackTask) -> ShardRecord:
    """Pack the staged outcomes of a shard, write its sidecar, and clear its staging folder.

    Raises:
        DataError: A staged outcome is missing or damaged.
        OSError: The file system refuses, for example because it is full.
    """
    folder = PreparedFolder(task.folder)
    path = folder.shard(task.shard)
    clips: list[ClipRecord] = []
    write_tar(path, _members(task, clips))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = ShardRecord(
        name=path.name,
        sha256=digest,
        bytes=path.stat().st_size,
        samples=sum(len(clip.samples) for clip in clips),
        clips=tuple(clips),
    )
    sync_folder(task.folder)
    write_record(folder.sidecar(task.shard), record)
    sync_folder(task.folder)
    shutil.rmtree(folder.shard_staging(task.shard))
    return record


def finished_shard(folder: Path, shard: int) -> ShardRecord | None:
    """The record of a shard that is done; None where it is not.

    Raises:
        DataError: The sidecar is damaged, or does not agree with its tar.
    """
    names = PreparedFolder(folder)
    sidecar = names.sidecar(shard)
    if not sidecar.is_file():
        return None
    record = read_record(ShardRecord, sidecar)
    _check_size(names.shard(shard), record.bytes, remedy=f"delete {sidecar} to have it made again")
    return record


def read_shards(folder: Path, *, verify: bool = False, within: range | None = None) -> Iterator[Sample]:
    """Every sample of a prepared folder, in key order, one in memory at a time.

    Args:
        folder: What `prepare` wrote.
        verify: Also hash each shard before it is read; sizes are always checked.
        within: Positions of the samples that are wanted; shards without any are not opened.

    Raises:
        DataError: The folder is not complete, or a shard is missing, truncated or damaged.
    """
    first = 0
    for entry in read_manifest(folder).shards:
        path, begin = folder / entry.name, first
        first += entry.samples
        if within is not None and not (begin < within.stop and within.start < first):
            continue
        _check_size(path, entry.bytes, remedy="copy the folder again, or prepare it again")
        if verify:
            _check_hash(path, entry)
        count = 0
        for sample in _samples(path):
            if within is None or begin + count in within:
                yield sample
            count += 1
        if count != entry.samples:
            raise DataError(f"{path} is damaged: holds {count} samples, the manifest says {entry.samples}")


def _members(task: PackTask, clips: list[ClipRecord]) -> Iterator[tuple[str, bytes]]:
    """Members of the shard; fills `clips` on the way, so that one outcome is in memory at a time."""
    folder = PreparedFolder(task.folder)
    for position, key in enumerate(task.keys, task.first_clip):
        outcome = read_outcome(folder.staged(task.shard, key))
        if outcome.key != key:
            raise DataError(f"{folder.staged(task.shard, key)} is damaged: it holds clip {outcome.key!r}")
        clips.append(_clip_record(outcome, keep_thumbnail=position % task.thumbnail_stride == 0))
        for sample in outcome.samples:
            for part in sorted(sample.parts):
                yield f"{sample.key}.{part}", sample.parts[part]


def _clip_record(outcome: ClipOutcome, *, keep_thumbnail: bool) -> ClipRecord:
    keep = keep_thumbnail or outcome.problem is not None
    return ClipRecord(
        key=outcome.key,
        samples=tuple(sample.key for sample in outcome.samples),
        problem=outcome.problem,
        message=outcome.message,
        notes=outcome.notes,
        row=dict(outcome.row),
        thumbnail=base64.b64encode(outcome.thumbnail).decode() if keep else "",
    )


def _samples(path: Path) -> Iterator[Sample]:
    """Group consecutive members with one key."""
    current, parts = "", dict[str, bytes]()
    for name, data in read_tar(path):
        key, dot, part = name.partition(".")
        if not (key and dot and part):
            raise DataError(f"{path} is damaged: {name!r} is no member of a sample")
        if key != current and parts:
            yield Sample(key=current, parts=parts)
            parts = {}
        current = key
        parts[part] = data
    if parts:
        yield Sample(key=current, parts=parts)


def _check_size(path: Path, wanted_bytes: int, *, remedy: str) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing: {remedy}")
    found = path.stat().st_size
    if found != wanted_bytes:
        raise DataError(f"{path} is truncated or damaged: {found} bytes, wanted {wanted_bytes}: {remedy}")


def _check_hash(path: Path, entry: ShardEntry) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        raise DataError(f"{path} is damaged: SHA-256 {found[:16]}..., the manifest says {entry.sha256[:16]}...")
