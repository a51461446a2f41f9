"""`evaluate report`: results files in, a page out; one line when they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.results import Figure, new_results, write_results
from stream_server.cli import main


def test_two_results_files_make_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for value, file in enumerate(files):
        figure = Figure(value=float(value), unit="ms", goal=0.5, better="lower")
        write_results(file, new_results({file.stem: figure}, command="c", data="d"))
    out = tmp_path / "out"
    chosen = [argument for file in files for argument in ("--json", str(file))]
    assert main(["evaluate", "report", *chosen, "--out", str(out), "--title", "Both <"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    text = (out / "report.html").read_text()
    assert "<h1>Both &lt;</h1>" in text and "hit: goal ≤ 0.5" in text and "missed: goal ≤ 0.5" in text
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "b.json", "report.html"]


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent.json"
    assert main(["evaluate", "report", "--json", str(absent), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"nerf-lipsync: cannot read results {absent}: No such file or directory\n"
    assert not (tmp_path / "out").exists()
