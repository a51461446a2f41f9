"""Runs stages that build on each other, each only when it must: its output is missing, or its inputs have changed.

`train_all.json` in the run folder records for each stage what it was made from and what came out, by hashes. A stage
that was cut off goes on where it was; one whose inputs have changed starts over, and so does what follows, as far as
its outputs differ. The program's own code is not an input.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.config import config_from_json, config_to_dict
from model.data.preparing.folder import PreparedFolder, write_whole
from model.errors import ConfigError, DataError

__all__ = ["RECORDS", "Stage", "StageRecord", "StageRecords", "read_records", "run_stages"]

RECORDS = "train_all.json"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. `folder` is its own: it is removed when the stage starts over."""

    name: str
    folder: Path
    needs: tuple[str, ...] = ()  # earlier stages whose outputs it reads
    inputs: Mapping[str, str]  # hashes of what else decides its output, by name
    make: Callable[[], object]  # makes the output, or goes on making it
    output: Callable[[], str]  # hash of the output, "" while it is not whole


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """What a stage was made from and what came out; `output` is "" until it is whole."""

    inputs: dict[str, str]
    output: str = ""
    wall_s: float = 0.0  # of all sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecords:
    """The file `train_all.json`."""

    version: int = 1
    stages: dict[str, StageRecord] = field(default_factory=dict)


def run_stages(stages: Sequence[Stage], folder: Path, say: Say) -> StageRecords:
    """Do what is left of the stages, in order; `folder` holds the records.

    Raises:
        DataError: Another process works in `folder`, its records are damaged, or a stage's folder holds what is not on
            record.
    """
    with PreparedFolder(folder).locked():
        runner = _Runner(folder / RECORDS, say)
        for number, stage in enumerate(stages, 1):
            runner.run(stage, f"[{number}/{len(stages)}] {stage.name}")
        return runner.records


def read_records(path: Path) -> StageRecords:
    """The records; empty ones where the file is missing.

    Raises:
        DataError: The file is damaged.
    """
    if not path.is_file():
        return StageRecords()
    try:
        return config_from_json(StageRecords, path.read_text(encoding="utf-8"))
    except (ConfigError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and the folders beside it, or use another") from error


class _Runner:
    """The records, kept on disk at every change."""

    def __init__(self, path: Path, say: Say) -> None:
        self._path = path
        self._say = say
        self.records = read_records(path)

    def run(self, stage: Stage, title: str) -> None:
        """Do what is left of a stage."""
        inputs = dict(stage.inputs) | {name: self.records.stages[name].output for name in stage.needs}
        record = self.records.stages.get(stage.name)
        if record and record.inputs == inputs and record.output and record.output == stage.output():
            self._say(f"{title}: up to date")
            return
        if record is None:
            _check_unused(stage.folder)
            self._say(f"{title}: begins")
        elif record.inputs != inputs:
            self._say(f"{title}: begins anew, changed: {', '.join(_changed(record.inputs, inputs))}")
            shutil.rmtree(stage.folder, ignore_errors=True)
            record = None
        else:
            self._say(f"{title}: goes on")
        self._make(stage, title, record or StageRecord(inputs=inputs))

    def _make(self, stage: Stage, title: str, record: StageRecord) -> None:
        self._keep(stage.name, replace(record, output=""))
        begun_s = time.monotonic()
        try:
            stage.make()
        finally:
            record = replace(record, output="", wall_s=round(record.wall_s + time.monotonic() - begun_s, 1))
            self._keep(stage.name, record)
        output = stage.output()
        if not output:
            raise DataError(f"{stage.name} ended without its output: look into {stage.folder}")
        self._keep(stage.name, replace(record, output=output))
        self._say(f"{title}: done in {record.wall_s:.0f} s")

    def _keep(self, name: str, record: StageRecord) -> None:
        self.records = replace(self.records, stages={**self.records.stages, name: record})
        text = json.dumps(config_to_dict(self.records), indent=1, sort_keys=True, allow_nan=False)
        write_whole(self._path, text.encode() + b"\n")


def _check_unused(folder: Path) -> None:
    """A folder that is not on record is somebody else's."""
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} holds files that `train all` did not make: choose another run folder (--runs)")


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
