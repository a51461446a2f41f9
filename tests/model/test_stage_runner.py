"""Stages run only when they must, start over only when their inputs changed, and go on where they were cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.data.preparing.folder import PreparedFolder
from model.errors import DataError
from model.training.stage_runner import RECORDS, Stage, read_records, run_stages


class Toys:
    """Two stages: `letters` writes its text in two goes, `sum` writes how long that is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = "abcd"
        self.cut_off = False
        self.made: list[str] = []
        self.said: list[str] = []

    def letters(self) -> None:
        file = self.folder / "letters" / "out"
        file.parent.mkdir(exist_ok=True)
        begun = file.read_text() if file.is_file() else ""
        self.made.append(f"letters from {len(begun)}")
        file.write_text(self.text[:2])
        if self.cut_off:
            raise KeyboardInterrupt
        file.write_text(self.text)

    def sum(self) -> None:
        self.made.append("sum")
        (self.folder / "sum").mkdir(exist_ok=True)
        (self.folder / "sum" / "out").write_text(str(len((self.folder / "letters" / "out").read_text())))

    def stages(self) -> list[Stage]:
        def output(name: str) -> str:
            file = self.folder / name / "out"
            return file.read_text() if file.is_file() else ""

        letters = Stage(
            name="letters",
            folder=self.folder / "letters",
            inputs={"text": self.text},
            make=self.letters,
            output=lambda: output("letters"),
        )
        total = Stage(
            name="sum",
            folder=self.folder / "sum",
            needs=("letters",),
            inputs={},
            make=self.sum,
            output=lambda: output("sum"),
        )
        return [letters, total]

    def run(self) -> list[str]:
        """What was made this time."""
        self.made = []
        run_stages(self.stages(), self.folder, self.said.append)
        return self.made


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    return Toys(tmp_path)


def test_a_second_run_has_nothing_to_do(toys: Toys) -> None:
    assert toys.run() == ["letters from 0", "sum"]
    assert toys.run() == []
    assert toys.said[-2:] == ["[1/2] letters: up to date", "[2/2] sum: up to date"]


def test_changed_inputs_start_a_stage_over_and_what_follows(toys: Toys) -> None:
    toys.run()
    toys.text = "abcdef"
    assert toys.run() == ["letters from 0", "sum"]
    assert any("begins anew, changed: text" in line for line in toys.said)
    assert (toys.folder / "sum" / "out").read_text() == "6"


def test_what_follows_stays_where_the_output_is_the_same(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.run()
    stages = toys.stages()
    monkeypatch.setattr(toys, "stages", lambda: [Stage(**{**vars(stages[0]), "inputs": {"text": "?"}}), stages[1]])
    assert toys.run() == ["letters from 0"]


@pytest.mark.parametrize("stage", ["letters", "sum"])
def test_a_lost_output_is_made_again(toys: Toys, stage: str) -> None:
    toys.run()
    (toys.folder / stage / "out").unlink()
    assert toys.run() == ["letters from 0" if stage == "letters" else "sum"]


def test_a_stage_that_was_cut_off_goes_on(toys: Toys) -> None:
    toys.cut_off = True
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    record = read_records(toys.folder / RECORDS).stages["letters"]
    assert record.output == "" and record.inputs == {"text": "abcd"}
    toys.cut_off = False
    assert toys.run() == ["letters from 2", "sum"]
    assert "[1/2] letters: goes on" in toys.said


def test_half_an_output_of_other_inputs_is_thrown_away(toys: Toys) -> None:
    toys.cut_off = True
    with pytest.raises(KeyboardInterrupt):
        toys.run()
    toys.cut_off, toys.text = False, "xyz"
    assert toys.run() == ["letters from 0", "sum"]


def test_other_peoples_files_are_left_alone(toys: Toys) -> None:
    foreign = toys.folder / "letters" / "mine"
    foreign.parent.mkdir()
    foreign.touch()
    with pytest.raises(DataError, match="holds files that `train all` did not make"):
        toys.run()
    assert foreign.exists()


def test_two_runs_do_not_share_a_folder(toys: Toys) -> None:
    with PreparedFolder(toys.folder).locked(), pytest.raises(DataError, match="is being written by process"):
        toys.run()


def test_a_stage_without_output_is_an_error(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toys, "letters", lambda: None)
    with pytest.raises(DataError, match="letters ended without its output"):
        toys.run()


def test_records_say_the_time_and_damaged_ones_are_refused(toys: Toys) -> None:
    toys.run()
    path = toys.folder / RECORDS
    assert json.loads(path.read_text())["stages"]["sum"]["wall_s"] >= 0
    path.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        toys.run()
