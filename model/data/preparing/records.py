"""What the JSON files of a prepared folder hold. Reading is strict: unknown keys and wrong types are errors.

Recipe, shard record and manifest depend on sources and settings only: no time of day, host name or folder of the
machine stands in them, so that a resumed run ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from model.data.clip_types import Problem
from model.data.preparing.folder import PreparedFolder, write_whole
from model.errors import DataError

__all__ = [
    "ClipRecord",
    "Manifest",
    "Recipe",
    "Run",
    "Runs",
    "ShardEntry",
    "ShardRecord",
    "read_manifest",
    "read_record",
    "write_record",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Recipe(_Record):
    """Everything that decides what the shards hold."""

    format_version: Literal[1] = 1
    data_set: str
    analysis: str  # "module:function"
    settings: dict[str, Any]  # a path in the settings stands here by its file name; `inputs` holds its hash
    inputs: dict[str, str]  # content hashes of model files and the like, by name
    versions: dict[str, str]  # Python and the packages whose release may change results
    shard_clips: int
    clips: int
    sources_sha256: str


class ClipRecord(_Record):
    """One clip, used or refused."""

    key: str
    samples: tuple[str, ...]  # keys in the shard; empty when refused
    problem: Problem | None
    message: str
    notes: tuple[str, ...]
    row: dict[str, Any]
    thumbnail: str  # JPEG, base64; kept for every reject and for an even choice of the rest, else ""


class ShardRecord(_Record):
    """The sidecar of a shard."""

    format_version: Literal[1] = 1
    name: str  # file name of the tar
    sha256: str
    bytes: int
    samples: int
    clips: tuple[ClipRecord, ...]  # in key order


class ShardEntry(_Record):
    """A shard as the manifest names it."""

    name: str
    sha256: str
    bytes: int
    clips: int
    samples: int


class Manifest(_Record):
    """A complete prepared folder."""

    format_version: Literal[1] = 1
    recipe: Recipe
    shards: tuple[ShardEntry, ...]
    clips: int
    used: int
    samples: int
    bytes: int
    rejects: dict[str, int]  # clips by `Problem` value


class Run(_Record):
    """One run of `prepare`, as far as it came."""

    engine: str
    workers: int
    clips: int  # analysed in this run
    seconds: float
    clips_per_minute: float
    complete: bool
    hardware: dict[str, str]


class Runs(_Record):
    """Statistics of every run that analysed clips; killed ones leave none."""

    runs: tuple[Run, ...] = ()


R = TypeVar("R", bound=_Record)


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON with sorted keys, whole or not at all."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_whole(path, text.encode() + b"\n")


def read_record(kind: type[R], path: Path) -> R:
    """Read what `write_record` wrote.

    Raises:
        DataError: It is missing, or does not follow the schema; the message names the first wrong field.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise DataError(f"{path} is damaged or of another version: {place}: {first['msg']}") from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete prepared folder.

    Raises:
        DataError: The folder is not complete, or the manifest is damaged.
    """
    path = PreparedFolder(folder).manifest
    if not path.is_file():
        raise DataError(f"{folder} holds no manifest.json: prepare it first, or run the same command again to finish")
    return read_record(Manifest, path)
