"""What decides the contents of a prepared folder, and whether a folder was begun with the same.

Paths count by their file names only: the data set may lie elsewhere when a run is continued, and what a file holds is
the business of the hashes in `inputs`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from model.data.clip_types import ClipSource
from model.data.preparing.folder import PreparedFolder
from model.data.preparing.records import Recipe, read_record, write_record
from model.errors import ConfigError, DataError

__all__ = ["OtherRecipeError", "make_recipe", "open_folder", "ordered_sources", "versions_now"]

RESULT_PACKAGES = ("nerf-lipsync", "av", "mediapipe", "numpy", "opencv-contrib-python", "safetensors", "scipy", "torch")
KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")
SPLIT_KEY = re.compile(r"(.+)[-_][0-9]+")


class OtherRecipeError(DataError):
    """A folder was begun with other clips or settings."""


def ordered_sources(sources: Sequence[ClipSource]) -> tuple[ClipSource, ...]:
    """The sources in key order.

    Raises:
        DataError: There are none; a key is malformed or occurs twice; or a key is what a part of another clip would
            be called (`a` and `a-0`).
    """
    if not sources:
        raise DataError("there are no clips to prepare")
    ordered = tuple(sorted(sources, key=lambda source: source.key))
    keys = {source.key for source in ordered}
    for source in ordered:
        if not KEY.fullmatch(source.key):
            raise DataError(
                f"clip key {source.key!r} ({source.video}) may hold letters, digits, - and _ only, at most 200"
            )
        part = SPLIT_KEY.fullmatch(source.key)
        if part and part[1] in keys:
            raise DataError(f"clip key {source.key!r} could be a part of clip {part[1]!r}: rename one of them")
    for one, other in pairwise(ordered):
        if one.key == other.key:
            raise DataError(f"clip key {one.key!r} occurs twice: {one.video} and {other.video}")
    return ordered


def make_recipe(
    sources: Sequence[ClipSource],
    analyse: Callable[..., object],
    settings: object,
    *,
    data_set: str,
    shard_clips: int,
    inputs: Mapping[str, str],
) -> Recipe:
    """The recipe of a run.

    Raises:
        ConfigError: The settings are no dataclass, or hold what JSON cannot.
    """
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        raise ConfigError(f"settings must be a dataclass instance, got {type(settings).__name__}")
    digest = hashlib.sha256()
    for source in sources:
        digest.update(json.dumps(_portable(source), sort_keys=True).encode() + b"\n")
    try:
        plain = json.loads(json.dumps(_portable(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"settings cannot be written as JSON: {error}") from error
    return Recipe(
        data_set=data_set,
        analysis=f"{analyse.__module__}:{analyse.__qualname__}",
        settings=plain,
        inputs=dict(inputs),
        versions=versions_now(),
        shard_clips=shard_clips,
        clips=len(sources),
        sources_sha256=digest.hexdigest(),
    )


def open_folder(folder: PreparedFolder, recipe: Recipe, *, overwrite: bool) -> None:
    """Begin a folder, or check that it was begun with the same recipe. Call it under the folder's lock.

    Args:
        folder: Where to write.
        recipe: Of this run.
        overwrite: Start over: remove what an earlier run wrote.

    Raises:
        DataError: The folder belongs to something else, or (`OtherRecipeError`) to another recipe; the message says
            what differs.
    """
    if folder.is_foreign():
        raise DataError(f"{folder.path} holds files that prepare did not write: choose a new or empty folder")
    if overwrite:
        folder.clear()
    folder.clear_partial()
    if folder.recipe.exists():
        begun = read_record(Recipe, folder.recipe)
        differing = list(_differences(begun.model_dump(), recipe.model_dump(), ""))
        if differing:
            more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
            raise OtherRecipeError(
                f"{folder.path} was begun with {differing[0]}{more}: "
                "choose a new folder, or start over with --overwrite"
            )
    else:
        write_record(folder.recipe, recipe)


def versions_now() -> dict[str, str]:
    """Python and the packages whose release may change what an analysis finds."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in RESULT_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _portable(value: Any) -> Any:
    """Plain values for JSON; paths by their file names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _portable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Path):
        return value.name
    if isinstance(value, tuple | list):
        return [_portable(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    return value


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}, key=lambda k: (k == "sources_sha256", k)):  # the hash says least: last
            yield from _differences(old.get(key), new.get(key), f"{place}.{key}" if place else key)
    elif old != new and place == "sources_sha256":
        yield "other clips (their names, speakers, splits or texts differ)"
    elif old != new:
        yield f"{place} {old!r}, now {new!r}"
