"""Finished clips on their way into a shard: each outcome is one small tar, written whole, without pickle.

outcome.json     problem, message, notes, row and the sizes of what follows
thumbnail
KEY.PART ...     the samples
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.clip_types import ClipOutcome, Problem, Sample
from model.data.preparing.tar_files import read_tar, write_tar
from model.errors import DataError

__all__ = ["read_outcome", "write_outcome"]


def write_outcome(path: Path, outcome: ClipOutcome) -> None:
    """Write an outcome, whole or not at all. Its folder must be there: it goes when the shard is packed."""
    write_tar(path, _members(outcome))


def read_outcome(path: Path) -> ClipOutcome:
    """Read what `write_outcome` wrote.

    Raises:
        DataError: It is missing or damaged.
    """
    members = list(read_tar(path))
    try:
        head = json.loads(members[0][1])
        found = [[name, len(data)] for name, data in members[1:]]
        if found != head["members"]:
            raise DataError(f"{path} is damaged: holds {found}, wanted {head['members']}")
        return _outcome(head, members[1][1], members[2:])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _members(outcome: ClipOutcome) -> Iterator[tuple[str, bytes]]:
    files = [("thumbnail", outcome.thumbnail)]
    for sample in sorted(outcome.samples, key=lambda s: s.key):
        files += [(f"{sample.key}.{part}", sample.parts[part]) for part in sorted(sample.parts)]
    head = {
        "key": outcome.key,
        "samples": [sample.key for sample in outcome.samples],
        "problem": outcome.problem,
        "message": outcome.message,
        "notes": list(outcome.notes),
        "row": dict(outcome.row),
        "members": [[name, len(data)] for name, data in files],
    }
    yield "outcome.json", json.dumps(head, sort_keys=True, allow_nan=False).encode()
    yield from files


def _outcome(head: dict[str, Any], thumbnail: bytes, files: list[tuple[str, bytes]]) -> ClipOutcome:
    parts: dict[str, dict[str, bytes]] = {key: {} for key in head["samples"]}
    for name, data in files:
        key, _, part = name.partition(".")
        parts[key][part] = data
    return ClipOutcome(
        key=head["key"],
        samples=tuple(Sample(key=key, parts=parts[key]) for key in sorted(parts)),
        problem=None if head["problem"] is None else Problem(head["problem"]),
        message=head["message"],
        notes=tuple(head["notes"]),
        row=head["row"],
        thumbnail=thumbnail,
    )
