"""`evaluate` commands of the motion model: what they ask for, and one line where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from model.errors import DataError
from stream_server.commands import evaluate_motion


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    evaluate_motion.register(group)
    return group


def test_all_commands_are_there(app: typer.Typer) -> None:
    out = CliRunner().invoke(app, ["--help"]).output
    for name in ("distillation", "ablation", "languages", "streaming", "drift", "side-by-side"):
        assert name in out


@pytest.mark.parametrize("given", [[], ["--audio", "a.wav", "--grid", "grid"]])
def test_a_comparison_shows_a_sound_or_a_clip(app: typer.Typer, tmp_path: Path, given: list[str]) -> None:
    done = CliRunner().invoke(app, ["side-by-side", "--out", str(tmp_path / "o.mp4"), *given])
    assert done.exit_code == 2 and "--audio FILE" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["distillation", "--grid", "{}", "--teacher", "{}/t.safetensors"],
        ["ablation", "--grid", "{}", "--runs", "{}"],
        ["streaming", "--clips", "{}"],
        ["drift", "--clips", "{}"],
    ],
)
def test_missing_files_are_errors_of_ours(app: typer.Typer, tmp_path: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(app, [word.format(tmp_path) for word in arguments])
    assert isinstance(done.exception, DataError) or "no such checkpoint" in str(done.exception)
