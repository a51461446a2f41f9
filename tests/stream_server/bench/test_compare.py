"""Ratios against a baseline: what is worse is found, in the direction in which it is worse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model.results import Figure, new_results, read_results, write_results
from stream_server.bench.compare import changes, table
from stream_server.bench.errors import BenchError
from stream_server.bench.ratios import calibration, kernel_ratios, least_ms
from stream_server.cli import main
from stream_server.commands import bench_compare

COMMITTED = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "baseline_ratios.json"


def lower(value: float) -> Figure:
    return Figure(value=value, unit="ratio", better="lower")


def higher(value: float) -> Figure:
    return Figure(value=value, unit="ratio", better="higher")


def test_worse_has_a_direction() -> None:
    baseline = {"cost": lower(2.0), "gain": higher(3.0), "same": lower(1.0)}
    found = changes(baseline, {"cost": lower(3.0), "gain": higher(1.5), "same": lower(1.0), "new": lower(9.0)})
    assert [(change.name, change.worse) for change in found] == [("gain", 1.0), ("cost", 0.5), ("same", 0.0)]
    better = changes(baseline, {"cost": lower(1.0), "gain": higher(6.0)})
    assert [(change.name, change.worse) for change in better] == [("cost", -0.5), ("gain", -0.5)]


def test_the_table_marks_what_is_worse_and_names_what_is_missing() -> None:
    found = changes({"cost": lower(1.0), "near": lower(1.0)}, {"cost": lower(1.5), "near": lower(1.2)})
    lines = table(found, ["march_avx512bf16_over_calibration"], 0.25)
    assert [line.endswith("WORSE") for line in lines] == [False, True, False, False]
    assert lines[-1] == "not measured here: march_avx512bf16_over_calibration"


def test_a_baseline_of_another_machine_is_an_error() -> None:
    with pytest.raises(BenchError, match="--write"):
        changes({"cost": lower(1.0)}, {"other": lower(1.0)})


@pytest.mark.parametrize(("now", "code"), [(1.2, 0), (1.4, 1)])
def test_the_exit_code_says_whether_it_is_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float, code: int
) -> None:
    def measured(_seconds: float, *, call: bool) -> Mapping[str, Any]:
        assert not call
        return {"cost": lower(now)}

    monkeypatch.setattr(bench_compare, "_measure", measured)
    file = tmp_path / "baseline.json"
    write_results(file, new_results({"cost": lower(1.0)}, command="c", data="d"))
    assert main(["bench", "compare", "--baseline", str(file), "--no-call"]) == code


def test_the_baseline_can_be_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_compare, "_measure", lambda _seconds, *, call: {"cost": lower(3.0 + call)})
    file = tmp_path / "baseline.json"
    assert main(["bench", "compare", "--baseline", str(file), "--write"]) == 0
    assert read_results(file).figures == {"cost": lower(4.0)}


def test_a_slower_kernel_is_seen_against_the_calibration_loop() -> None:
    loop = calibration()
    least = least_ms({"once": loop, "twice": lambda: (loop(), loop())}, 5)
    assert 1.5 < least["twice"] / least["once"] < 3.0


def test_kernels_are_measured_and_the_committed_names_are_those() -> None:
    now = kernel_ratios(2)
    assert now["color_over_calibration"].value > 0
    assert any(name.startswith("march_portable_over_") and figure.value > 1.5 for name, figure in now.items())
    committed = read_results(COMMITTED).figures
    assert {"color_over_calibration"} <= set(committed)
    assert all(figure.value > 0 for figure in committed.values())
