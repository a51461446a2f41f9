"""Analysing one clip and staging what came out: the unit of work of both engines, run in a process of its own."""

from __future__ import annotations

import errno
import json
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from model.data.clip_types import ClipOutcome, ClipSource, Problem
from model.data.preparing.isolation import Failure
from model.data.preparing.staging import write_outcome

__all__ = ["ClipJob", "ClipTask", "settle"]

S = TypeVar("S")

MESSAGE_CHARACTERS = 600
MACHINE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
PART = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """One clip to analyse."""

    index: int  # among all clips, in key order
    source: ClipSource
    staged: Path  # where its outcome goes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipJob(Generic[S]):
    """Analyses a clip and stages the outcome; returns its problem. Picklable."""

    analyse: Callable[[ClipSource, S], ClipOutcome]
    settings: S

    def __call__(self, task: ClipTask) -> Problem | None:
        """Run it. A bug in the analysis becomes a reject.

        Raises:
            OSError: The outcome cannot be written, or the machine is out of disk or file handles: a reason to end the
                run, not to refuse the clip.
        """
        try:
            outcome = _checked(self.analyse(task.source, self.settings), task.source.key)
        except Exception as error:  # whatever it is, it concerns this clip only
            if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
                raise
            outcome = _refused(task.source.key, Problem.CRASHED, f"{_describe(error)} ({_place(error)})")
        write_outcome(task.staged, outcome)
        return outcome.problem


def settle(task: ClipTask, result: Problem | Failure | None) -> Problem | None:
    """What became of a task; where its process was lost, the reject is staged here."""
    if not isinstance(result, Failure):
        return result
    write_outcome(task.staged, _refused(task.source.key, result.problem, result.message))
    return result.problem


def _refused(key: str, problem: Problem, message: str) -> ClipOutcome:
    return ClipOutcome(key=key, problem=problem, message=_one_line(message))


def _checked(outcome: ClipOutcome, key: str) -> ClipOutcome:
    """The outcome with its texts made printable. Errors name what the analysis did wrong."""
    if not isinstance(outcome, ClipOutcome):
        raise TypeError(f"the analysis returned a {type(outcome).__name__}, wanted a ClipOutcome")
    if outcome.key != key:
        raise ValueError(f"the analysis returned clip {outcome.key!r}")
    if bool(outcome.samples) == (outcome.problem is not None):
        raise ValueError("the analysis must return either samples or a problem")
    keys = [sample.key for sample in outcome.samples]
    wrong = [name for name in keys if not re.fullmatch(re.escape(key) + r"([-_][0-9]+)?", name)]
    if wrong or len(set(keys)) != len(keys):
        raise ValueError(f"sample keys must be the clip's key, or that with -NUMBER, each once; got {keys}")
    wrong = [part for sample in outcome.samples for part in sample.parts if not PART.fullmatch(part)]
    if wrong or not all(sample.parts for sample in outcome.samples):
        raise ValueError(f"each sample needs parts named like features.safetensors, got {wrong or 'none'}")
    return replace(
        outcome,
        message=_one_line(outcome.message),
        notes=tuple(_one_line(note) for note in outcome.notes),
        row=json.loads(_printable(json.dumps(dict(outcome.row), allow_nan=False, ensure_ascii=False))),
    )


def _describe(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _one_line(text: str) -> str:
    """Without line breaks, and without addresses in memory, which differ from run to run."""
    line = re.sub(r"\b0x[0-9a-fA-F]{6,}", "0x...", " ".join(_printable(text).split()))
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 3] + "..."


def _printable(text: str) -> str:
    """File names that are not UTF-8 hold lone surrogates: show them as question marks."""
    return text.encode("utf-8", "replace").decode()
