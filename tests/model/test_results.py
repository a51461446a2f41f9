"""Results files follow one schema; misses are found on the right side of the goal."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from model.errors import ResultsError
from model.results import Figure, hardware_info, new_results, read_results, versions_info, write_results


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "r.json"
    results = new_results(
        {"render_ms": Figure(value=7.5, unit="ms", goal=10.0, better="lower", spread=0.2)}, command="bench", data="none"
    )
    write_results(file, results)
    assert read_results(file) == results
    assert set(json.loads(file.read_text())) == {
        "figures", "hardware", "versions", "command", "commit", "date", "data"
    }  # fmt: skip
    assert [p.name for p in file.parent.iterdir()] == ["r.json"]


def test_what_only_evaluations_have_stands_only_there(tmp_path: Path) -> None:
    plain = Figure(value=7.5, unit="ms", better="lower")
    rich = Figure(value=0.8, unit="r", better="higher", n=42, interval=(0.75, 0.84))
    file = tmp_path / "r.json"
    write_results(file, new_results({"a": plain, "b": rich}, command="c", data="d", details={"tables": [None, 1.5]}))
    written = json.loads(file.read_text())
    assert written["figures"]["a"] == {"value": 7.5, "unit": "ms", "goal": None, "better": "lower", "spread": None}
    assert written["figures"]["b"]["n"] == 42 and written["figures"]["b"]["interval"] == [0.75, 0.84]
    assert read_results(file).details == {"tables": [None, 1.5]} and read_results(file).figures["b"] == rich


@pytest.mark.parametrize(
    ("value", "goal", "better", "missed"),
    [
        (1.0, None, "higher", False),
        (1.0, 1.0, "higher", False),
        (0.9, 1.0, "higher", True),
        (1.1, 1.0, "higher", False),
        (1.1, 1.0, "lower", True),
        (0.9, 1.0, "lower", False),
    ],
)
def test_missed(value: float, goal: float | None, better: str, missed: bool) -> None:
    figure = Figure.model_validate({"value": value, "unit": "1", "goal": goal, "better": better})
    assert figure.missed is missed


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"extra": 1}, "extra"),
        ({"figures": {"a": {"value": "fast", "unit": "ms", "better": "lower"}}}, r"figures\.a\.value"),
        ({"figures": {"a": {"value": 1.0, "unit": "ms", "better": "faster"}}}, r"figures\.a\.better"),
        ({"figures": {"a": {"value": 1.0, "unit": "ms", "better": "lower", "target": 2}}}, r"figures\.a\.target"),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path: Path, change: dict[str, object], place: str) -> None:
    file = tmp_path / "r.json"
    write_results(file, new_results({}, command="bench", data="none"))
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ResultsError, match=rf"r\.json: {place}: "):
        read_results(file)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot read results"):
        read_results(tmp_path / "absent.json")
    (tmp_path / "r.json").write_text("not json")
    with pytest.raises(ResultsError, match=r"r\.json: file: "):
        read_results(tmp_path / "r.json")


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.json").mkdir()
    with pytest.raises(ResultsError, match=r"cannot write results .*r\.json: Is a directory"):
        write_results(tmp_path / "r.json", new_results({}, command="bench", data="none"))
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_the_machine_is_described_but_not_named() -> None:
    described = {**hardware_info(), **versions_info()}
    assert int(described["cores"]) >= 1
    assert described["cpu"]
    assert described["python"].startswith("3.")
    assert socket.gethostname() not in described.values()


def test_a_long_file_is_short_and_reads_the_same(tmp_path: Path) -> None:
    figures = {f"figure_{n}": Figure(value=n / 3, unit="ms", better="lower") for n in range(300)}
    results = new_results(figures, command="c", data="d")
    write_results(tmp_path / "r.json", results)
    text = (tmp_path / "r.json").read_text()
    assert len(text) < 0.6 * len(results.model_dump_json(indent=2)) and "\n " not in text and "null" not in text
    assert read_results(tmp_path / "r.json") == results
